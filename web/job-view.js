// The open job: its bars, files, results and events.

import { thumbnail } from "./create.js";
import { $, age, bar, bytes, duration, el, plural, setText } from "./dom.js";
import { finishedFiles, isFinished, isOver, shortId, word } from "./job.js";

const MAX_EVENTS = 200;
const CONNECTION = {
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  ended: "ended",
};

let parts;
let current;

/** Replaces what is shown by `job`. */
export function show(job, { onCancel }) {
  current = job;
  parts = {
    title: el("h2", { id: "job-title", title: job.id }, `Job ${shortId(job.id)}`),
    badge: el("span", { class: "badge" }),
    connection: el("span", { class: "connection" }),
    cancel: el("button", { type: "button", onclick: onCancel }, "Cancel job"),
    percent: el("span", { class: "percent" }),
    times: el("span", {}),
    now: el("p", { class: "now" }),
    overall: bar("Whole job", "bar thick"),
    files: job.files.map((file, index) => fileRow(job, file, index)),
    events: el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" }),
  };
  $("job").replaceChildren(
    el(
      "div",
      { class: "job-head" },
      el("div", {}, parts.title, el("p", { class: "sub" }, parts.times)),
      el("div", { class: "job-state" }, parts.connection, parts.badge, parts.cancel),
    ),
    el("div", { class: "overall" }, parts.percent, el("div", {}, parts.overall.node, parts.now)),
    el("h3", {}, "Files"),
    el("ul", { class: "files" }, ...parts.files.map((it) => it.node)),
    el("h3", {}, "Events"),
    parts.events,
  );
  $("job-empty").hidden = true;
  $("job-empty").querySelector("h2").removeAttribute("id");
  $("job").hidden = false;
  draw(job);
}

/** Shows that no job is open. */
export function clear() {
  current = undefined;
  parts = undefined;
  $("job").replaceChildren();
  $("job").hidden = true;
  $("job-empty").hidden = false;
  $("job-empty").querySelector("h2").id = "job-title";
}

export function setConnection(state) {
  if (!parts) return;
  setText(parts.connection, CONNECTION[state]);
  parts.connection.dataset.state = state;
}

/** Adds an event on top of the timeline. */
export function addEvent(name, text, time) {
  const clock = new Date(time);
  const entry = el(
    "li",
    { "data-event": name },
    el("time", { datetime: clock.toISOString() }, clock.toLocaleTimeString([], { hourCycle: "h23" })),
    el("code", {}, name),
    el("span", {}, text),
  );
  parts.events.prepend(entry);
  while (parts.events.childElementCount > MAX_EVENTS) parts.events.lastElementChild.remove();
}

/** What changes with time alone. */
export function tick() {
  if (current) drawTimes(current);
}

/** Shows the job as it is now. */
export function draw(job) {
  setText(parts.badge, word(job.status));
  parts.badge.dataset.state = job.status;
  parts.cancel.hidden = isOver(job) || job.status === "cancelling";
  setText(parts.percent, `${job.progress} %`);
  parts.overall.set(job.progress, job.status);
  setText(parts.now, nowOf(job));
  drawTimes(job);
  job.files.forEach((file, index) => parts.files[index].update(file));
}

function drawTimes(job) {
  const times = [plural(job.files.length, "file")];
  if (job.createdAt) times.push(`created ${age(job.createdAt)}`);
  const begun = job.startedAt ?? job.createdAt;
  if (isOver(job) && job.endedAt && begun) times.push(`took ${duration(job.endedAt - begun)}`);
  setText(parts.times, times.join(" · "));
}

function nowOf(job) {
  const failed = job.files.filter((it) => it.status === "failed").length;
  const counted = `${finishedFiles(job)} of ${job.files.length} files finished${failed ? `, ${failed} of them failed` : ""}`;
  if (isOver(job)) return job.error ? `${counted} · ${job.error}` : counted;
  if (job.status === "pending") return "Waiting for a worker";
  const left = job.eta === undefined ? undefined : `about ${duration(job.eta * 1000)} left`;
  return [counted, left, job.message].filter(Boolean).join(" · ");
}

function fileRow(job, file, index) {
  const progress = bar(file.name);
  const state = el("span", { class: "badge" });
  const percent = el("span", { class: "file-percent" });
  const note = el("span", { class: "note" });
  const result = el("span", { class: "result" });
  const facts = [file.size !== undefined && bytes(file.size), file.type].filter(Boolean).join(" · ");
  const node = el(
    "li",
    {},
    thumbnail(job.id, index),
    el(
      "div",
      { class: "file" },
      el("div", { class: "file-head" }, el("span", { class: "name", title: file.name }, file.name), percent, state),
      progress.node,
      el("div", { class: "file-foot" }, note, result, el("span", { class: "facts" }, facts)),
    ),
  );
  const update = (file) => {
    setText(state, word(file.status));
    state.dataset.state = file.status;
    setText(percent, file.status === "processing" ? `${file.progress} %` : "");
    progress.set(file.status === "completed" ? 100 : file.progress, file.status);
    setText(note, noteOf(file));
    note.classList.toggle("error", file.status === "failed");
    if (file.result && !result.hasChildNodes()) result.append(...linksOf(file.result));
  };
  return { node, update };
}

function noteOf(file) {
  if (file.error) return file.error;
  if (isFinished(file)) return "";
  if (file.status === "retrying") return `Attempt ${file.attempt ?? ""} waits for a worker`;
  return file.message ?? "";
}

/** Links to a model and its picture; what a browser cannot open is shown as text. */
function linksOf(result) {
  const entries = [[`${result.filename} (${bytes(result.size)})`, result.url]];
  if (result.rendered_image) entries.push(["preview", result.rendered_image.url]);
  return entries.map(([text, address]) => {
    const url = URL.canParse(address, location.href) ? new URL(address, location.href) : undefined;
    if (!url || !["http:", "https:"].includes(url.protocol)) return el("span", { title: address }, text);
    const sameOrigin = url.origin === location.origin;
    return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer", download: sameOrigin && result.filename }, text);
  });
}
