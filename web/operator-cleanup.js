// The cleanup: first counted, then done. What is kept of the last one is shown.

import { call } from "./api.js";
import { ask } from "./dialog.js";
import { announce, badge, el } from "./dom.js";
import { facts, nothing, table } from "./table.js";
import { moment, number } from "./text.js";

const PATH = "/api/v1/admin/cleanup";
const LOOK_EVERY_MS = 500;
const COLOURS = { running: "processing", finished: "completed", interrupted: "partial", failed: "failed" };

export function cleanupPanel() {
  const report = el("div", { class: "panel-body", id: "cleanup-report" });
  const dry = el("button", { type: "button", onclick: () => begin(true) }, "Dry run");
  const real = el("button", { type: "button", class: "danger", onclick: () => confirmed() }, "Clean up now");
  const node = el(
    "div",
    {},
    el("p", { class: "hint" }, "Gives keys without an end one, and removes what is old or belongs to jobs that are gone. A dry run counts, and changes nothing."),
    el("div", { class: "actions" }, dry, real),
    report,
  );
  let watching = false;

  async function confirmed() {
    const isWanted = await ask({
      title: "Clean up now?",
      text: "What a dry run counts as removed or pruned will be gone for good.",
      action: "Clean up",
    });
    if (isWanted) await begin(false);
  }

  async function begin(isDry) {
    if (dry.ariaDisabled === "true") return;
    for (const it of [dry, real]) it.ariaDisabled = "true";
    try {
      const begun = await call("POST", `${PATH}?dry_run=${isDry}`);
      draw(begun);
      await watch(begun.id);
    } catch (error) {
      report.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    } finally {
      for (const it of [dry, real]) it.ariaDisabled = null;
    }
  }

  async function watch(id) {
    watching = true;
    try {
      for (;;) {
        const last = await call("GET", PATH);
        draw(last);
        if (last.id !== id || last.state !== "running") {
          announce(`${last.dry_run ? "Dry run" : "Cleanup"} ${last.state}: ${summary(last)}.`);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      }
    } finally {
      watching = false;
    }
  }

  async function load() {
    if (watching) return;
    try {
      draw(await call("GET", PATH));
    } catch (error) {
      report.replaceChildren(error.status === 404 ? nothing("There was no cleanup yet.") : el("p", { class: "error" }, error.message));
    }
  }

  const draw = (last) => report.replaceChildren(...reportOf(last));
  return { node, load };
}

const summary = ({ totals: { scanned, adopted, removed, pruned } }) =>
  `${number(scanned)} keys scanned, ${number(adopted)} given an end, ${number(removed)} removed, ${number(pruned)} members pruned`;

function reportOf(last) {
  const head = el(
    "p",
    { class: "verdict" },
    badge(COLOURS[last.state], last.state),
    `${last.dry_run ? "Dry run" : "Cleanup"} of ${moment(Date.parse(last.started_at))}: ${summary(last)}`,
  );
  const rows = Object.entries(last.families).flatMap(([family, databases]) =>
    Object.entries(databases).map(([database, it]) => [
      family.replaceAll("_", " "), database, number(it.scanned), number(it.adopted), number(it.removed), number(it.pruned),
    ]),
  );
  const nodes = [head];
  if (last.error) nodes.push(el("p", { class: "callout" }, last.error));
  const [adopted, removed, pruned] = last.dry_run ? ["#Would get an end", "#Would be removed", "#Would be pruned"] : ["#Given an end", "#Removed", "#Pruned"];
  if (rows.length > 0) nodes.push(table("Cleanup report", ["Family", "#Database", "#Scanned", adopted, removed, pruned], rows));
  const unknown = Object.values(last.unknown).reduce((sum, it) => sum + it, 0);
  nodes.push(facts([
    ["Calls to Redis", number(last.steps)],
    ["Longest", `${last.longest_step_ms.toFixed(1)} ms`],
    ["Keys of others, left alone", unknown > 0 ? `${number(unknown)}, such as ${last.unknown_examples.slice(0, 3).join(", ")}` : undefined],
  ]));
  return nodes;
}
