// The list of the jobs of the API key in use.

import { jobButtons } from "./actions.js";
import { hasKey, listJobs } from "./api.js";
import { byId, el, setChildren, setText, showError } from "./dom.js";
import { age, dateTime, pluralize } from "./format.js";
import { finishedCount, isFinished, isTerminal, jobTitle, shortId, statusLabel } from "./job.js";

const PAGE_SIZE = 20;
/** The maximum page size of the API. */
const MAX_PAGE_SIZE = 100;
/** A running job with more files shows its segments without names. */
const MAX_NAMED_FILES = 6;

let jobs;
let rows = new Map();
let ids = [];
let nextCursor;
let generation = 0;
let onVisibleChange;

/** `handler` is called when the visible jobs change. */
export function setUp(store, handler) {
  jobs = store;
  onVisibleChange = handler;
  for (const id of ["status-filter", "created-filter"]) byId(id).addEventListener("change", () => load());
  byId("show-more").addEventListener("click", loadMore);
}

export const visibleIds = () => ids;

function filters() {
  const hours = Number(byId("created-filter").value);
  return {
    status: byId("status-filter").value,
    since: hours ? new Date(Date.now() - hours * 3_600_000).toISOString() : undefined,
  };
}

/** Reloads the list; with `keepPages`, all pages that are shown. If calls overlap, only the newest is drawn. */
export function load({ keepPages = false } = {}) {
  const limit = keepPages ? Math.min(MAX_PAGE_SIZE, Math.max(PAGE_SIZE, ids.length)) : PAGE_SIZE;
  // One call returns at most MAX_PAGE_SIZE jobs. Older entries are kept as they are.
  const tail = keepPages ? ids.slice(MAX_PAGE_SIZE) : [];
  return read({ ...filters(), limit }, (page) => {
    if (tail.length === 0) nextCursor = page.next_cursor;
    return [...page.jobs.map((body) => jobs.upsert(body).id), ...tail];
  });
}

function loadMore() {
  const first = ids.length;
  return read({ ...filters(), limit: PAGE_SIZE, cursor: nextCursor }, (page) => {
    nextCursor = page.next_cursor;
    return [...ids, ...page.jobs.map((body) => jobs.upsert(body).id)];
  }).then(() => rows.get(ids[first])?.link.focus());
}

async function read(query, mergeIds) {
  const request = ++generation;
  try {
    const page = await listJobs(query);
    if (request !== generation) return;
    ids = [...new Set(mergeIds(page))];
    draw();
  } catch (error) {
    if (request !== generation) return;
    if (error.status === 403) {
      ids = [];
      nextCursor = undefined;
      draw(hasKey() ? error.message : undefined);
    } else if (error.status !== 0) {
      showError(error);
    }
  }
}

/** Removes a job and moves the focus to its neighbour. */
export function remove(id) {
  const index = ids.indexOf(id);
  const hadFocus = rows.get(id)?.node.contains(document.activeElement);
  ids = ids.filter((other) => other !== id);
  draw();
  if (index >= 0 && hadFocus) (rows.get(ids[Math.min(index, ids.length - 1)])?.link ?? byId("list-title")).focus();
}

function draw(deniedMessage) {
  const previousRows = rows;
  rows = new Map(ids.map((id) => [id, previousRows.get(id) ?? createRow(id)]));
  for (const id of ids) rows.get(id).update(jobs.get(id));
  setChildren(byId("job-list"), [...rows.values()].map((row) => row.node));
  byId("show-more").hidden = nextCursor === undefined;
  drawEmpty(deniedMessage);
  onVisibleChange();
  for (const id of ids) loadFileNames(jobs.get(id));
}

/** Loads file names, which list entries do not contain and events contain only once a file is processed. */
function loadFileNames(job) {
  if (job.hasDetails || job.detailsRequested || isTerminal(job) || job.files.length > MAX_NAMED_FILES) return;
  job.detailsRequested = true;
  // If the job was deleted meanwhile, the next refresh removes it.
  jobs.load(job.id).catch(() => {});
}

function drawEmpty(deniedMessage) {
  byId("list-empty").hidden = ids.length > 0;
  const isFiltered = byId("status-filter").value !== "" || byId("created-filter").value !== "";
  const [title, text] =
    deniedMessage || !hasKey()
      ? ["No jobs to show", deniedMessage ?? "Enter an API key above to see your jobs."]
      : isFiltered
        ? ["No matching jobs", "Change the filters to see other jobs."]
        : ["No jobs yet", `Drop pictures to create a job${byId("try-it").hidden ? "." : ", or press “Try it” to watch a sample job run in ten seconds."}`];
  setText(byId("list-empty-title"), title);
  setText(byId("list-empty-text"), text);
}

function createRow(id) {
  const link = el("a", { class: "row-title", href: `#job=${id}` });
  const status = el("span", { class: "badge" });
  const percent = el("span", { class: "row-percent" });
  const created = el("time", {});
  const fileCount = el("span", {});
  const files = el("div", { class: "segments", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
  const error = el("p", { class: "row-error" });
  const buttons = jobButtons(id, jobs, (...done) => onJobAction(...done));
  const node = el(
    "li",
    { class: "row" },
    el("div", { class: "row-head" }, link, status, percent),
    files,
    error,
    el("div", { class: "row-foot" }, el("code", {}, shortId(id)), fileCount, created, el("span", { class: "row-actions" }, ...buttons.nodes)),
  );
  const update = (job) => {
    if (!job) return;
    setText(link, jobTitle(job));
    setText(status, statusLabel(job.status));
    status.dataset.state = job.status;
    setText(percent, isTerminal(job) || job.status === "pending" ? "" : `${job.progress} %`);
    setText(fileCount, job.status === "processing" ? `${finishedCount(job)} of ${pluralize(job.files.length, "file")}` : pluralize(job.files.length, "file"));
    setText(error, isTerminal(job) && job.status !== "cancelled" ? (job.error ?? "") : "");
    drawFiles(files, job);
    drawAge(created, job);
    buttons.update(job);
  };
  return { node, link, update };
}

let onJobAction = () => {};
export const setOnAction = (handler) => (onJobAction = handler);

function drawAge(node, job) {
  if (!job.createdAt) return;
  node.dateTime = new Date(job.createdAt).toISOString();
  node.title = dateTime(job.createdAt);
  setText(node, age(job.createdAt));
}

/** One bar per file: with names while the job runs, otherwise side by side. */
function drawFiles(node, job) {
  const finished = finishedCount(job);
  node.setAttribute("aria-label", jobTitle(job));
  node.setAttribute("aria-valuenow", job.progress);
  node.setAttribute("aria-valuetext", `${job.progress} %, ${finished} of ${pluralize(job.files.length, "file")} finished`);
  const showsNames = !isTerminal(job) && job.files.some((file) => file.name) && job.files.length <= MAX_NAMED_FILES;
  node.classList.toggle("with-names", showsNames);
  while (node.childElementCount > job.files.length) node.lastElementChild.remove();
  job.files.forEach((file, index) => {
    const segment = node.children[index] ?? node.appendChild(createSegment());
    const value = isFinished(file) ? 100 : (file.progress ?? 0);
    segment.dataset.state = file.status;
    segment.querySelector(".fill").style.setProperty("--value", value / 100);
    setText(segment.querySelector(".segment-name"), showsNames ? (file.name ?? file.id) : "");
    setText(segment.querySelector(".segment-percent"), showsNames ? fileStatusText(file) : "");
  });
}

const fileStatusText = (file) => (file.status === "processing" ? `${file.progress} %` : statusLabel(file.status));

function createSegment() {
  return el(
    "div",
    { class: "segment" },
    el("span", { class: "segment-name" }),
    el("span", { class: "segment-percent" }),
    el("div", { class: "bar thin" }, el("div", { class: "fill" })),
  );
}

/** Redraws `job` if it is in the list. */
export function update(job) {
  rows.get(job.id)?.update(job);
}

/** Updates relative times. */
export function tick() {
  for (const [id, row] of rows) {
    const job = jobs.get(id);
    if (job) drawAge(row.node.querySelector("time"), job);
  }
}
