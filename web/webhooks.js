// Whether the end of a job was told to the address that its creator gave.

import { badge, el } from "./dom.js";
import { moment, plural } from "./text.js";

const STATES = { pending: ["processing", "pending"], delivered: ["completed", "delivered"], given_up: ["failed", "given up"] };

export function webhookList(webhooks) {
  return el("ul", { class: "webhooks" }, ...webhooks.map(webhookItem));
}

function webhookItem({ url, type, state, tries, next_try_at: next, log }) {
  const [colour, text] = STATES[state] ?? ["pending", state];
  const facts = [type, plural(tries, "attempt"), next && state === "pending" && `next at ${moment(Date.parse(next))}`];
  return el(
    "li",
    {},
    el("div", { class: "webhook-head" }, el("code", { class: "name", title: url }, url), badge(colour, text)),
    el("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
    el("ol", { class: "log" }, ...log.map(attempt)),
  );
}

function attempt({ at, outcome, status, duration_ms: took }) {
  const said = [at && moment(Date.parse(at)), status ? `${status}` : outcome, `${took} ms`];
  return el("li", {}, said.filter(Boolean).join(" · "));
}
