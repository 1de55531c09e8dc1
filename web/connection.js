// How the page's stream is, for everybody to see; for those who hear it, only what changes.

import { byId, setText } from "./dom.js";

const LABELS = {
  idle: () => "Up to date",
  connecting: ({ isRetry }) => (isRetry ? "Reconnecting" : "Connecting"),
  live: () => "Live",
  reconnecting: ({ seconds }) => `Reconnecting in ${seconds} s`,
  offline: () => "Offline",
  refused: () => "Key refused",
};
const ANNOUNCEMENTS = {
  reconnecting: "The connection is lost. It is tried again by itself.",
  offline: "This device is offline. What is shown may be old.",
  live: "The connection is back.",
};

let announcedState;

export function showState(change) {
  const node = byId("connection");
  node.dataset.state = change.state;
  setText(byId("connection-text"), LABELS[change.state](change));
  byId("reconnect").hidden = change.state !== "reconnecting";
  const isDisconnected = change.state === "reconnecting" || change.state === "offline";
  // A countdown would chatter, and a first connection is no news.
  if (isDisconnected ? announcedState !== change.state : change.state === "live" && announcedState) {
    setText(byId("connection-announcement"), ANNOUNCEMENTS[change.state]);
    announcedState = isDisconnected ? change.state : undefined;
  }
}
