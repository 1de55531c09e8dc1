// Shows the state of the event stream. Screen readers announce only a lost and a restored connection.

import { byId, setText } from "./dom.js";

const LABELS = {
  idle: () => "Up to date",
  connecting: ({ isRetry }) => (isRetry ? "Reconnecting" : "Connecting"),
  live: () => "Live",
  reconnecting: ({ seconds }) => `Reconnecting in ${seconds} s`,
  offline: () => "Offline",
  refused: () => "Key rejected",
};
const ANNOUNCEMENTS = {
  reconnecting: "Connection lost. Reconnecting automatically.",
  offline: "This device is offline. The data shown may be out of date.",
  live: "Connection restored.",
};

let announcedState;

export function showState(change) {
  const node = byId("connection");
  node.dataset.state = change.state;
  setText(byId("connection-text"), LABELS[change.state](change));
  byId("reconnect").hidden = change.state !== "reconnecting";
  const isDisconnected = change.state === "reconnecting" || change.state === "offline";
  // The countdown and the first connection are not announced.
  if (isDisconnected ? announcedState !== change.state : change.state === "live" && announcedState) {
    setText(byId("connection-announcement"), ANNOUNCEMENTS[change.state]);
    announcedState = isDisconnected ? change.state : undefined;
  }
}
