// The webhook deliveries of a job, with the log of attempts.

import { badge, el } from "./dom.js";
import { dateTime, pluralize } from "./format.js";

const STATE_LABELS = { pending: ["processing", "pending"], delivered: ["completed", "delivered"], given_up: ["failed", "given up"] };

export function webhookList(webhooks) {
  return el("ul", { class: "webhooks" }, ...webhooks.map(webhookItem));
}

function webhookItem({ url, type, state, tries, next_try_at: next, log }) {
  const [colour, text] = STATE_LABELS[state] ?? ["pending", state];
  const facts = [type, pluralize(tries, "attempt"), next && state === "pending" && `next attempt at ${dateTime(Date.parse(next))}`];
  return el(
    "li",
    {},
    el("div", { class: "webhook-head" }, el("code", { class: "name", title: url }, url), badge(colour, text)),
    el("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
    el("ol", { class: "log" }, ...log.map(attemptItem)),
  );
}

function attemptItem({ at, outcome, status, duration_ms: durationMs }) {
  const parts = [at && dateTime(Date.parse(at)), status ? `${status}` : outcome, `${durationMs} ms`];
  return el("li", {}, parts.filter(Boolean).join(" · "));
}
