// Asks before something that cannot be undone. The browser's own dialog keeps the focus in, and closes on Escape.

import { byId, setText } from "./dom.js";

/** Whether the reader wants it. The focus begins on the harmless answer, and returns to where it was. */
export function confirmAction({ title, text, action }) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), action);
  const previousFocus = document.activeElement;
  dialog.returnValue = "";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((resolve) => {
    const onClose = () => {
      if (previousFocus?.isConnected) previousFocus.focus();
      resolve(dialog.returnValue === "yes");
    };
    dialog.addEventListener("close", onClose, { once: true });
  });
}

export function setUp() {
  byId("confirm-no").addEventListener("click", () => byId("confirm").close("no"));
  byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
}
