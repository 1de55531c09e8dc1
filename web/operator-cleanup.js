// The cleanup panel: dry run, cleanup, and the report of the last run.

import { call } from "./api.js";
import { confirmAction } from "./confirm-dialog.js";
import { announce, badge, el } from "./dom.js";
import { dateTime, number } from "./format.js";
import { emptyNote, facts, table } from "./table.js";

const PATH = "/api/v1/admin/cleanup";
const POLL_INTERVAL_MS = 500;
const STATE_COLOURS = { running: "processing", finished: "completed", interrupted: "partial", failed: "failed" };

export function cleanupPanel() {
  const output = el("div", { class: "panel-body", id: "cleanup-report" });
  const dryRunButton = el("button", { type: "button", onclick: () => run(true) }, "Dry run");
  const cleanupButton = el("button", { type: "button", class: "danger", onclick: () => confirmAndRun() }, "Clean up now");
  const node = el(
    "div",
    {},
    el("p", { class: "hint" }, "Sets a TTL on keys that have none, and removes old data and data of deleted jobs. A dry run only counts."),
    el("div", { class: "actions" }, dryRunButton, cleanupButton),
    output,
  );
  let isPolling = false;

  async function confirmAndRun() {
    const isConfirmed = await confirmAction({
      title: "Clean up now?",
      text: "This permanently deletes the keys and members that a dry run reports as removed or pruned.",
      action: "Clean up",
    });
    if (isConfirmed) await run(false);
  }

  async function run(isDryRun) {
    if (dryRunButton.ariaDisabled === "true") return;
    for (const button of [dryRunButton, cleanupButton]) button.ariaDisabled = "true";
    try {
      const started = await call("POST", `${PATH}?dry_run=${isDryRun}`);
      draw(started);
      await poll(started.id);
    } catch (error) {
      output.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    } finally {
      for (const button of [dryRunButton, cleanupButton]) button.ariaDisabled = null;
    }
  }

  async function poll(id) {
    isPolling = true;
    try {
      for (;;) {
        const report = await call("GET", PATH);
        draw(report);
        if (report.id !== id || report.state !== "running") {
          announce(`${report.dry_run ? "Dry run" : "Cleanup"} ${report.state}: ${summary(report)}.`);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
      }
    } finally {
      isPolling = false;
    }
  }

  async function load() {
    if (isPolling) return;
    try {
      draw(await call("GET", PATH));
    } catch (error) {
      output.replaceChildren(error.status === 404 ? emptyNote("No cleanup has run yet.") : el("p", { class: "error" }, error.message));
    }
  }

  const draw = (report) => output.replaceChildren(...renderReport(report));
  return { node, load };
}

const summary = ({ totals: { scanned, adopted, removed, pruned } }) =>
  `${number(scanned)} keys scanned, ${number(adopted)} TTLs set, ${number(removed)} removed, ${number(pruned)} members pruned`;

function renderReport(report) {
  const head = el(
    "p",
    { class: "status-line" },
    badge(STATE_COLOURS[report.state], report.state),
    `${report.dry_run ? "Dry run" : "Cleanup"} of ${dateTime(Date.parse(report.started_at))}: ${summary(report)}`,
  );
  const rows = Object.entries(report.families).flatMap(([family, databases]) =>
    Object.entries(databases).map(([database, counts]) => [
      family.replaceAll("_", " "), database, number(counts.scanned), number(counts.adopted), number(counts.removed), number(counts.pruned),
    ]),
  );
  const nodes = [head];
  if (report.error) nodes.push(el("p", { class: "callout" }, report.error));
  const [adopted, removed, pruned] = report.dry_run ? ["#Would get a TTL", "#Would be removed", "#Would be pruned"] : ["#TTL set", "#Removed", "#Pruned"];
  if (rows.length > 0) nodes.push(table("Cleanup report", ["Key kind", "#Database", "#Scanned", adopted, removed, pruned], rows));
  const unknown = Object.values(report.unknown).reduce((sum, count) => sum + count, 0);
  nodes.push(facts([
    ["Redis calls", number(report.steps)],
    ["Longest call", `${report.longest_step_ms.toFixed(1)} ms`],
    ["Unknown keys, not touched", unknown > 0 ? `${number(unknown)}, such as ${report.unknown_examples.slice(0, 3).join(", ")}` : undefined],
  ]));
  return nodes;
}
