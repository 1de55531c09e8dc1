// Asks before something that cannot be undone. The browser's own dialog keeps the focus in, and closes on Escape.

import { $, setText } from "./dom.js";

/** Whether the reader wants it. The focus begins on the harmless answer, and returns to where it was. */
export function ask({ title, text, action }) {
  const dialog = $("confirm");
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  setText($("confirm-yes"), action);
  const before = document.activeElement;
  dialog.returnValue = "";
  dialog.showModal();
  $("confirm-no").focus();
  return new Promise((resolve) => {
    const closed = () => {
      if (before?.isConnected) before.focus();
      resolve(dialog.returnValue === "yes");
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}

export function setUp() {
  $("confirm-no").addEventListener("click", () => $("confirm").close("no"));
  $("confirm-yes").addEventListener("click", () => $("confirm").close("yes"));
}
