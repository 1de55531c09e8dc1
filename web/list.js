// The list of the presented key's jobs.

import { buttonsFor } from "./actions.js";
import { hasKey, listJobs } from "./api.js";
import { $, complain, el, setChildren, setText } from "./dom.js";
import { finishedFiles, isFinished, isOver, shortId, titleOf, word } from "./job.js";
import { age, moment, plural } from "./text.js";

const PAGE = 20;
/** As many as one call gives. */
const MAX_PAGE = 100;
/** Of a job at work, as many files have a line of their own. */
const MAX_LINES = 6;

let jobs;
let rows = new Map();
let ids = [];
let nextCursor;
let generation = 0;
let onShown;

/** `onShown` hears which jobs the list shows. */
export function setUp(all, shown) {
  jobs = all;
  onShown = shown;
  for (const filter of ["filter", "since"]) $(filter).addEventListener("change", () => load());
  $("more").addEventListener("click", more);
}

export const shownIds = () => ids;

function filters() {
  const hours = Number($("since").value);
  return {
    status: $("filter").value,
    since: hours ? new Date(Date.now() - hours * 3_600_000).toISOString() : undefined,
  };
}

/** Reads anew what is shown, however many pages that are. Only the newest call draws. */
export function load({ keep = false } = {}) {
  const limit = keep ? Math.min(MAX_PAGE, Math.max(PAGE, ids.length)) : PAGE;
  // Further than one call reaches, the list stays as it was read.
  const rest = keep ? ids.slice(MAX_PAGE) : [];
  return read({ ...filters(), limit }, (page) => {
    if (rest.length === 0) nextCursor = page.next_cursor;
    return [...page.jobs.map((it) => jobs.take(it).id), ...rest];
  });
}

function more() {
  const first = ids.length;
  return read({ ...filters(), limit: PAGE, cursor: nextCursor }, (page) => {
    nextCursor = page.next_cursor;
    return [...ids, ...page.jobs.map((it) => jobs.take(it).id)];
  }).then(() => rows.get(ids[first])?.link.focus());
}

async function read(query, take) {
  const mine = ++generation;
  try {
    const page = await listJobs(query);
    if (mine !== generation) return;
    ids = [...new Set(take(page))];
    draw();
  } catch (error) {
    if (mine !== generation) return;
    if (error.status === 403) {
      ids = [];
      nextCursor = undefined;
      draw(hasKey() ? error.message : undefined);
    } else if (error.status !== 0) {
      complain(error);
    }
  }
}

/** Takes a job out, and leaves the focus with its neighbour. */
export function remove(id) {
  const index = ids.indexOf(id);
  const hadFocus = rows.get(id)?.node.contains(document.activeElement);
  ids = ids.filter((it) => it !== id);
  draw();
  if (index >= 0 && hadFocus) (rows.get(ids[Math.min(index, ids.length - 1)])?.link ?? $("list-title")).focus();
}

function draw(refusal) {
  const known = rows;
  rows = new Map(ids.map((id) => [id, known.get(id) ?? rowOf(id)]));
  for (const id of ids) rows.get(id).update(jobs.get(id));
  setChildren($("jobs"), [...rows.values()].map((it) => it.node));
  $("more").hidden = nextCursor === undefined;
  drawEmpty(refusal);
  onShown();
  for (const id of ids) readNames(jobs.get(id));
}

/** A list does not say what the files are called, and events only once they are at work. */
function readNames(job) {
  if (job.isWhole || job.isAsked || isOver(job) || job.files.length > MAX_LINES) return;
  job.isAsked = true;
  // A job that is gone meanwhile leaves the list by itself.
  jobs.read(job.id).catch(() => {});
}

function drawEmpty(refusal) {
  $("list-empty").hidden = ids.length > 0;
  const isFiltered = $("filter").value !== "" || $("since").value !== "";
  const [title, text] =
    refusal || !hasKey()
      ? ["No jobs to show", refusal ?? "Enter an API key above to see your jobs."]
      : isFiltered
        ? ["Nothing matches", "No job is in this state and of this age. Choose another filter."]
        : ["No jobs yet", `Drop some pictures to create the first one${$("try").hidden ? "." : ", or press “Try it” to watch a whole job in ten seconds."}`];
  setText($("list-empty-title"), title);
  setText($("list-empty-text"), text);
}

function rowOf(id) {
  const link = el("a", { class: "row-title", href: `#job=${id}` });
  const state = el("span", { class: "badge" });
  const percent = el("span", { class: "row-percent" });
  const detail = el("time", {});
  const counted = el("span", {});
  const files = el("div", { class: "segments", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
  const error = el("p", { class: "row-error" });
  const buttons = buttonsFor(id, jobs, (...done) => onDone(...done));
  const node = el(
    "li",
    { class: "row" },
    el("div", { class: "row-head" }, link, state, percent),
    files,
    error,
    el("div", { class: "row-foot" }, el("code", {}, shortId(id)), counted, detail, el("span", { class: "row-actions" }, ...buttons.nodes)),
  );
  const update = (job) => {
    if (!job) return;
    setText(link, titleOf(job));
    setText(state, word(job.status));
    state.dataset.state = job.status;
    setText(percent, isOver(job) || job.status === "pending" ? "" : `${job.progress} %`);
    setText(counted, job.status === "processing" ? `${finishedFiles(job)} of ${plural(job.files.length, "file")}` : plural(job.files.length, "file"));
    setText(error, isOver(job) && job.status !== "cancelled" ? (job.error ?? "") : "");
    drawFiles(files, job);
    drawAge(detail, job);
    buttons.update(job);
  };
  return { node, link, update };
}

let onDone = () => {};
export const onAction = (heard) => (onDone = heard);

function drawAge(node, job) {
  if (!job.createdAt) return;
  node.dateTime = new Date(job.createdAt).toISOString();
  node.title = moment(job.createdAt);
  setText(node, age(job.createdAt));
}

/** A bar for each file: with its name while the job is at work, else side by side. */
function drawFiles(node, job) {
  const finished = finishedFiles(job);
  node.setAttribute("aria-label", titleOf(job));
  node.setAttribute("aria-valuenow", job.progress);
  node.setAttribute("aria-valuetext", `${job.progress} %, ${finished} of ${plural(job.files.length, "file")} finished`);
  const isNamed = !isOver(job) && job.files.some((it) => it.name) && job.files.length <= MAX_LINES;
  node.classList.toggle("named", isNamed);
  while (node.childElementCount > job.files.length) node.lastElementChild.remove();
  job.files.forEach((file, index) => {
    const segment = node.children[index] ?? node.appendChild(segmentOf());
    const value = isFinished(file) ? 100 : (file.progress ?? 0);
    segment.dataset.state = file.status;
    segment.querySelector(".fill").style.setProperty("--value", value / 100);
    setText(segment.querySelector(".segment-name"), isNamed ? (file.name ?? file.id) : "");
    setText(segment.querySelector(".segment-percent"), isNamed ? partOf(file) : "");
  });
}

const partOf = (file) => (file.status === "processing" ? `${file.progress} %` : word(file.status));

function segmentOf() {
  return el(
    "div",
    { class: "segment" },
    el("span", { class: "segment-name" }),
    el("span", { class: "segment-percent" }),
    el("div", { class: "bar thin" }, el("div", { class: "fill" })),
  );
}

/** Shows `job` as it is now, if it is in the list. */
export function update(job) {
  rows.get(job.id)?.update(job);
}

/** What changes with time alone. */
export function tick() {
  for (const [id, row] of rows) {
    const job = jobs.get(id);
    if (job) drawAge(row.node.querySelector("time"), job);
  }
}
