// The timeline of a job, from its record and its stream events.

import { el, setText } from "./dom.js";
import { dateTime, duration, pluralize, timeOfDay } from "./format.js";
import { isTerminal, statusLabel } from "./job.js";

/** One entry per status change of each file. “Show every step” adds the progress reports between them. */
export class Timeline {
  #list = el("ol", { class: "timeline", tabindex: "0", "aria-label": "Timeline, oldest first" });
  #steps = el("input", { type: "checkbox", id: "every-step", onchange: () => this.draw(this.#job) });
  #job;
  #renderedKey = "";
  node = el(
    "section",
    { class: "card", "aria-labelledby": "timeline-title" },
    el("div", { class: "card-head" }, el("h2", { id: "timeline-title" }, "Timeline"), el("label", { class: "check" }, this.#steps, "Show every step")),
    this.#list,
  );

  draw(job) {
    this.#job = job;
    const entries = timelineEntries(job, this.#steps.checked);
    const key = `${this.#steps.checked} ${entries.length} ${entries.at(-1)?.text}`;
    if (key === this.#renderedKey) return;
    this.#renderedKey = key;
    const isAtEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 8;
    const nodes = this.#list.children;
    entries.forEach((entry, index) => {
      const node = nodes[index];
      if (!node) this.#list.append(entryNode(entry, entries[0].time));
      else if (node.dataset.key !== entryKey(entry)) node.replaceWith(entryNode(entry, entries[0].time));
    });
    while (this.#list.childElementCount > entries.length) this.#list.lastElementChild.remove();
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

const entryKey = ({ time, text, state }) => `${time} ${state} ${text}`;

function entryNode(entry, startTime) {
  const elapsed = entry.time > startTime ? `+${preciseDuration(entry.time - startTime)}` : "";
  const text = el("span", { class: "entry-text" }, entry.text);
  if (entry.detail) text.append(el("small", {}, entry.detail));
  return el(
    "li",
    { "data-state": entry.state, "data-key": entryKey(entry), "data-event": entry.event },
    el("time", { datetime: new Date(entry.time).toISOString(), title: dateTime(entry.time) }, timeOfDay(entry.time)),
    text,
    el("span", { class: "elapsed" }, elapsed),
  );
}

const preciseDuration = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms));

/** The entries sorted by time. Entries with the same time keep the order of the stream. */
export function timelineEntries(job, includeSteps) {
  const streamEntries = [];
  const lastStatus = new Map();
  let wasQueued = false;
  for (const { name, data, time } of job.events) {
    const addEntry = (text, state, detail) => streamEntries.push({ time, text, state, detail, event: name });
    switch (name) {
      case "task_queued":
        // The first task_queued only repeats that the job was created.
        if (wasQueued) addEntry("Queued again", "pending");
        wasQueued = true;
        lastStatus.clear();
        break;
      case "file_update":
        addFile(addEntry, lastStatus, data, includeSteps);
        break;
      case "task_completed":
        addEntry(data.summary.failed_files ? "Partly completed" : "Completed", data.summary.failed_files ? "partial" : "completed",
          `${data.summary.successful_files} of ${pluralize(data.summary.total_files, "file")} succeeded`);
        break;
      case "task_cancelled":
        addEntry("Cancelled", "cancelled");
        break;
      case "task_failed":
        if (data.status !== "cancelled") addEntry(data.status === "expired" ? "Expired" : "Failed", "failed", data.error);
        break;
      case "resync":
        addEntry("Earlier events are no longer available", "pending");
        break;
    }
  }
  const recordEntries = [];
  if (job.createdAt) recordEntries.push({ time: job.createdAt, text: "Created", state: "pending", detail: pluralize(job.files.length, "file"), event: "created" });
  if (job.startedAt) recordEntries.push({ time: job.startedAt, text: "Started", state: "processing", event: "started" });
  const hasEndEvent = streamEntries.some((entry) => entry.event.startsWith("task_c") || entry.event === "task_failed");
  if (isTerminal(job) && job.endedAt && !hasEndEvent) {
    recordEntries.push({ time: job.endedAt, text: `Ended: ${statusLabel(job.status)}`, state: job.status, detail: job.error, event: "ended" });
  }
  return [...recordEntries, ...streamEntries].sort((a, b) => a.time - b.time);
}

function addFile(addEntry, lastStatus, data, includeSteps) {
  const name = data.filename ?? data.file_id;
  const previousStatus = lastStatus.get(data.file_id);
  lastStatus.set(data.file_id, data.status);
  if (previousStatus !== data.status) {
    const phrases = { processing: "started", completed: "finished", failed: "failed", cancelled: "cancelled", retrying: "waiting to retry" };
    return addEntry(`${name} ${phrases[data.status] ?? statusLabel(data.status)}`, data.status, data.error ?? (data.status === "processing" ? data.message : undefined));
  }
  if (includeSteps) addEntry(`${name} ${data.file_progress} %`, "step", data.message);
  return undefined;
}
