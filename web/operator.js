// The operator's view: reads all of it every few seconds while it is looked at.

import { call } from "./api.js";
import { $, el, setText } from "./dom.js";
import { cleanupPanel } from "./operator-cleanup.js";
import { databases, memory, overview, replication } from "./operator-redis.js";
import { callers, queues, slowQueries, streams } from "./operator-tables.js";
import { clock } from "./text.js";

const EVERY_MS = 5000;
const READS = {
  health: () => call("GET", "/health", undefined, { answers: [503] }),
  queues: () => call("GET", "/api/v1/admin/queues"),
  limits: () => call("GET", "/api/v1/admin/rate-limits"),
  streams: () => call("GET", "/api/v1/admin/streams"),
  slow: () => call("GET", "/api/v1/admin/slow-queries?num=20"),
};
const PANELS = [
  ["Service and Redis", "health", overview, "full"],
  ["Memory", "health", memory],
  ["Replication", "health", replication],
  ["Databases", "health", databases],
  ["Queues and workers", "queues", queues],
  ["Event streams", "streams", streams],
  ["Rate limits", "limits", callers, "full"],
  ["Slow queries", "slow", slowQueries, "full"],
];

let timer;
let bodies;
let cleanup;

function setUp() {
  bodies = PANELS.map(() => el("div", { class: "panel-body" }, el("p", { class: "hint" }, "Reading …")));
  cleanup = cleanupPanel();
  const cards = PANELS.map(([title, , , kind], index) => card(title, bodies[index], kind));
  const refreshed = el("span", { class: "hint", id: "operator-time" });
  $("view-operator").replaceChildren(
    el("header", { class: "view-head" }, el("h1", { tabindex: "-1" }, "Operator"), refreshed),
    el("div", { class: "panels" }, ...cards, card("Cleanup", cleanup.node, "full")),
  );
}

function card(title, body, kind = "") {
  const id = `panel-${title.toLowerCase().replaceAll(" ", "-")}`;
  return el("section", { class: `card panel ${kind}`, "aria-labelledby": id }, el("h2", { id }, title), body);
}

/** Begins to look. */
export function open() {
  if (!bodies) setUp();
  cleanup.load();
  close();
  refresh();
}

/** Stops looking. */
export function close() {
  clearTimeout(timer);
  timer = undefined;
}

async function refresh() {
  const mine = (timer = setTimeout(() => (document.hidden ? later() : refresh()), EVERY_MS));
  const names = Object.keys(READS);
  const answers = await Promise.allSettled(names.map((it) => READS[it]()));
  if (timer !== mine) return;
  const read = Object.fromEntries(names.map((name, index) => [name, answers[index]]));
  PANELS.forEach(([, source, draw], index) => show(bodies[index], read[source], draw));
  setText($("operator-time"), `Read at ${clock(Date.now())}, again every ${EVERY_MS / 1000} s`);
}

function later() {
  timer = setTimeout(() => (document.hidden ? later() : refresh()), EVERY_MS);
}

/** What cannot be read says so in its own place, and leaves the rest alone. */
function show(body, { status, value, reason }, draw) {
  const nodes = status === "fulfilled" ? draw(value) : [el("p", { class: "error" }, reason.message)];
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.scroll : undefined;
  const scrolled = new Map([...body.querySelectorAll("[data-scroll]")].map((it) => [it.dataset.scroll, it.scrollLeft]));
  body.replaceChildren(...nodes);
  for (const it of body.querySelectorAll("[data-scroll]")) {
    it.scrollLeft = scrolled.get(it.dataset.scroll) ?? 0;
    if (it.dataset.scroll === focused) it.focus({ preventScroll: true });
  }
}
