// The operator view. Refreshes every few seconds while it is open and the page is visible.

import { call } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { timeOfDay } from "./format.js";
import { queues, rateLimits, slowQueries, streams } from "./operator-activity.js";
import { cleanupPanel } from "./operator-cleanup.js";
import { databases, memory, overview, replication } from "./operator-health.js";

const REFRESH_INTERVAL_MS = 5000;
const REQUESTS = {
  health: () => call("GET", "/health", undefined, { allowedStatuses: [503] }),
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
  ["Rate limits", "limits", rateLimits, "full"],
  ["Slow queries", "slow", slowQueries, "full"],
];

let timer;
let bodies;
let cleanup;

function setUp() {
  bodies = PANELS.map(() => el("div", { class: "panel-body" }, el("p", { class: "hint" }, "Loading …")));
  cleanup = cleanupPanel();
  const cards = PANELS.map(([title, , , kind], index) => card(title, bodies[index], kind));
  const refreshed = el("span", { class: "hint", id: "operator-time" });
  byId("view-operator").replaceChildren(
    el("header", { class: "view-head" }, el("h1", { tabindex: "-1" }, "Operator"), refreshed),
    el("div", { class: "panels" }, ...cards, card("Cleanup", cleanup.node, "full")),
  );
}

function card(title, body, kind = "") {
  const id = `panel-${title.toLowerCase().replaceAll(" ", "-")}`;
  return el("section", { class: `card panel ${kind}`, "aria-labelledby": id }, el("h2", { id }, title), body);
}

/** Shows the view and starts refreshing. */
export function open() {
  if (!bodies) setUp();
  cleanup.load();
  close();
  refresh();
}

/** Stops refreshing. */
export function close() {
  clearTimeout(timer);
  timer = undefined;
}

async function refresh() {
  const thisTimer = (timer = setTimeout(() => (document.hidden ? schedule() : refresh()), REFRESH_INTERVAL_MS));
  const names = Object.keys(REQUESTS);
  const settled = await Promise.allSettled(names.map((name) => REQUESTS[name]()));
  if (timer !== thisTimer) return;
  const results = Object.fromEntries(names.map((name, index) => [name, settled[index]]));
  PANELS.forEach(([, source, draw], index) => renderPanel(bodies[index], results[source], draw));
  setText(byId("operator-time"), `Updated at ${timeOfDay(Date.now())}, refreshes every ${REFRESH_INTERVAL_MS / 1000} s`);
}

function schedule() {
  timer = setTimeout(() => (document.hidden ? schedule() : refresh()), REFRESH_INTERVAL_MS);
}

/** Redraws one panel, or shows the error of its request. Keeps scroll positions and the focus. */
function renderPanel(body, { status, value, reason }, draw) {
  const nodes = status === "fulfilled" ? draw(value) : [el("p", { class: "error" }, reason.message)];
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.scroll : undefined;
  const scrolled = new Map([...body.querySelectorAll("[data-scroll]")].map((region) => [region.dataset.scroll, region.scrollLeft]));
  body.replaceChildren(...nodes);
  for (const region of body.querySelectorAll("[data-scroll]")) {
    region.scrollLeft = scrolled.get(region.dataset.scroll) ?? 0;
    if (region.dataset.scroll === focused) region.focus({ preventScroll: true });
  }
}
