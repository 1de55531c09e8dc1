// The list of own jobs.

import { listJobs } from "./api.js";
import { $, age, bar, complain, el, plural, setText } from "./dom.js";
import { jobOf, shortId, word } from "./job.js";

let rows = new Map();
let openId;
let nextCursor;
let generation = 0;

export function setUp() {
  $("filter").addEventListener("change", () => load());
  $("more").addEventListener("click", () => load(nextCursor));
}

/** Reads the list anew, or the page after `cursor`. Only the newest call draws. */
export async function load(cursor) {
  const mine = ++generation;
  try {
    const page = await read($("filter").value, cursor);
    if (mine === generation) draw(page, cursor !== undefined);
  } catch (error) {
    if (mine !== generation) return;
    if (error.status === 403) draw({ jobs: [], hint: "Enter a valid API key to see your jobs." }, false);
    else complain(error);
  }
}

async function read(status, cursor) {
  const page = await listJobs(status, cursor);
  return { jobs: page.jobs.map(jobOf), cursor: page.next_cursor };
}

function draw(page, isContinued) {
  nextCursor = page.cursor;
  $("more").hidden = nextCursor === undefined;
  const isEmpty = page.jobs.length === 0 && !isContinued;
  const hint = isEmpty ? (page.hint ?? ($("filter").value ? "No such job." : "No job yet.")) : "";
  setText($("list-hint"), hint);
  $("list-hint").hidden = !hint;
  const shown = [...rows.keys()].join();
  const known = rows;
  if (!isContinued) rows = new Map();
  for (const job of page.jobs) {
    const row = known.get(job.id) ?? rowOf(job);
    row.update(job);
    rows.set(job.id, row);
  }
  // Left alone if nothing came or went, so that a focused row keeps the focus.
  if ([...rows.keys()].join() !== shown) $("jobs").replaceChildren(...[...rows.values()].map((it) => it.node));
  mark(openId);
}

function rowOf(job) {
  const title = el("span", { class: "row-title" });
  const badge = el("span", { class: "badge" });
  const detail = el("span", { class: "row-detail" });
  const progress = bar(`Job ${shortId(job.id)}`, "bar thin");
  const link = el("a", { href: `#job=${job.id}` }, title, badge, detail, progress.node);
  const row = { node: el("li", {}, link), link };
  row.update = (job) => {
    row.job = job;
    setText(title, titleOf(job));
    setText(badge, word(job.status));
    badge.dataset.state = job.status;
    setText(detail, [shortId(job.id), job.createdAt && age(job.createdAt)].filter(Boolean).join(" · "));
    progress.set(job.progress, job.status);
  };
  return row;
}

function titleOf(job) {
  if (!job.firstName) return plural(job.total ?? 0, "file");
  return job.total === 1 ? job.firstName : `${job.firstName} and ${job.total - 1} more`;
}

/** Shows `job` as it is now, if it is in the list. */
export function update(job) {
  rows.get(job.id)?.update(job);
}

export function mark(id) {
  openId = id;
  for (const [key, row] of rows) {
    if (key === id) row.link.setAttribute("aria-current", "true");
    else row.link.removeAttribute("aria-current");
  }
}

export function tick() {
  for (const row of rows.values()) row.update(row.job);
}
