// Asks for confirmation of an irreversible action. The native `dialog` element traps the focus and closes on Escape.

import { byId, setText } from "./dom.js";

/** Resolves to true if the user confirms. The safe button is focused first; closing restores the previous focus. */
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
