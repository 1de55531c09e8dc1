// What happened to a job, in order: from its record and from the events of its stream.

import { el, setText } from "./dom.js";
import { isOver, word } from "./job.js";
import { clock, duration, moment, plural } from "./text.js";

/** Of each file one entry a state; the percents between them, if the reader wants every step. */
export class Timeline {
  #list = el("ol", { class: "timeline", tabindex: "0", "aria-label": "Timeline, oldest first" });
  #steps = el("input", { type: "checkbox", id: "every-step", onchange: () => this.draw(this.#job) });
  #job;
  #drawn = "";
  node = el(
    "section",
    { class: "card", "aria-labelledby": "timeline-title" },
    el("div", { class: "card-head" }, el("h2", { id: "timeline-title" }, "Timeline"), el("label", { class: "check" }, this.#steps, "Every step")),
    this.#list,
  );

  draw(job) {
    this.#job = job;
    const entries = entriesOf(job, this.#steps.checked);
    const key = `${this.#steps.checked} ${entries.length} ${entries.at(-1)?.text}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    const isAtEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 8;
    const known = this.#list.children;
    entries.forEach((entry, index) => {
      const node = known[index];
      if (!node) this.#list.append(entryNode(entry, entries[0].time));
      else if (node.dataset.key !== keyOf(entry)) node.replaceWith(entryNode(entry, entries[0].time));
    });
    while (this.#list.childElementCount > entries.length) this.#list.lastElementChild.remove();
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

const keyOf = ({ time, text, state }) => `${time} ${state} ${text}`;

function entryNode(entry, begin) {
  const since = entry.time > begin ? `+${precise(entry.time - begin)}` : "";
  const text = el("span", { class: "what" }, entry.text);
  if (entry.detail) text.append(el("small", {}, entry.detail));
  return el(
    "li",
    { "data-state": entry.state, "data-key": keyOf(entry), "data-event": entry.event },
    el("time", { datetime: new Date(entry.time).toISOString(), title: moment(entry.time) }, clock(entry.time)),
    text,
    el("span", { class: "since" }, since),
  );
}

const precise = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms));

/** In the order of their times; of one moment, in the order in which they were told. */
export function entriesOf(job, withSteps) {
  const told = [];
  const seen = new Map();
  let isQueued = false;
  for (const { name, data, time } of job.events) {
    const add = (text, state, detail) => told.push({ time, text, state, detail, event: name });
    switch (name) {
      case "task_queued":
        // The first only repeats that the job was created.
        if (isQueued) add("Queued again", "pending");
        isQueued = true;
        seen.clear();
        break;
      case "file_update":
        addFile(add, seen, data, withSteps);
        break;
      case "task_completed":
        add(data.summary.failed_files ? "Partly completed" : "Completed", data.summary.failed_files ? "partial" : "completed",
          `${data.summary.successful_files} of ${plural(data.summary.total_files, "file")} have a model`);
        break;
      case "task_cancelled":
        add("Cancelled", "cancelled");
        break;
      case "task_failed":
        if (data.status !== "cancelled") add(data.status === "expired" ? "Gone" : "Failed", "failed", data.error);
        break;
      case "resync":
        add("Earlier events are no longer kept", "pending");
        break;
    }
  }
  const known = [];
  if (job.createdAt) known.push({ time: job.createdAt, text: "Created", state: "pending", detail: plural(job.files.length, "file"), event: "created" });
  if (job.startedAt) known.push({ time: job.startedAt, text: "Work began", state: "processing", event: "begun" });
  const isEndTold = told.some((it) => it.event.startsWith("task_c") || it.event === "task_failed");
  if (isOver(job) && job.endedAt && !isEndTold) {
    known.push({ time: job.endedAt, text: `Ended: ${word(job.status)}`, state: job.status, detail: job.error, event: "ended" });
  }
  return [...known, ...told].sort((a, b) => a.time - b.time);
}

function addFile(add, seen, data, withSteps) {
  const name = data.filename ?? data.file_id;
  const before = seen.get(data.file_id);
  seen.set(data.file_id, data.status);
  if (before !== data.status) {
    const verb = { processing: "started", completed: "finished", failed: "failed", cancelled: "cancelled", retrying: "waits for another attempt" };
    return add(`${name} ${verb[data.status] ?? word(data.status)}`, data.status, data.error ?? (data.status === "processing" ? data.message : undefined));
  }
  if (withSteps) add(`${name} ${data.file_progress} %`, "step", data.message);
  return undefined;
}
