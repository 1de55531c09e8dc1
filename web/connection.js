// How the page's stream is, for everybody to see; for those who hear it, only what changes.

import { $, setText } from "./dom.js";

const WORDS = {
  idle: () => "Up to date",
  connecting: ({ isAgain }) => (isAgain ? "Reconnecting" : "Connecting"),
  live: () => "Live",
  reconnecting: ({ seconds }) => `Reconnecting in ${seconds} s`,
  offline: () => "Offline",
  refused: () => "Key refused",
};
const SPOKEN = {
  reconnecting: "The connection is lost. It is tried again by itself.",
  offline: "This device is offline. What is shown may be old.",
  live: "The connection is back.",
};

let spoken;

export function show(change) {
  const node = $("connection");
  node.dataset.state = change.state;
  setText($("connection-text"), WORDS[change.state](change));
  $("reconnect").hidden = change.state !== "reconnecting";
  const isTrouble = change.state === "reconnecting" || change.state === "offline";
  // A countdown would chatter, and a first connection is no news.
  if (isTrouble ? spoken !== change.state : change.state === "live" && spoken) {
    setText($("connection-status"), SPOKEN[change.state]);
    spoken = isTrouble ? change.state : undefined;
  }
}
