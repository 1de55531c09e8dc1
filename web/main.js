// Puts the page together: the key, the views and their addresses, and the one stream that keeps them up to date.

import { createJob, hasKey, setKey, useKey, whoAmI } from "./api.js";
import * as connection from "./connection.js";
import * as create from "./create.js";
import * as dialog from "./dialog.js";
import { $, announce, complain, setText, stopComplaining } from "./dom.js";
import { finishedFiles, isOver, shortId, titleOf, word } from "./job.js";
import { onRead } from "./job-file.js";
import * as view from "./job-view.js";
import { Jobs } from "./jobs.js";
import * as list from "./list.js";
import * as operator from "./operator.js";
import { drawPictures } from "./pictures.js";
import { playWorker } from "./try.js";

const LIST_EVERY_MS = 15_000;
const SLEPT_MS = 60_000;
const VIEWS = ["jobs", "job", "operator"];

const jobs = new Jobs({ onChange, onEvent, onState: connection.show });
let roles = [];
/** Of the address that is being opened; another may have been chosen meanwhile. */
let opening = 0;

async function setUp() {
  $("key").value = useKey($("key").dataset.default);
  $("key-form").addEventListener("submit", changeKey);
  $("notice-close").addEventListener("click", stopComplaining);
  $("skip").addEventListener("click", skip);
  $("reconnect").addEventListener("click", () => jobs.reconnect());
  $("try").addEventListener("click", tryIt);
  addEventListener("keydown", closeKeyBox);
  addEventListener("pointerdown", closeKeyBox);
  dialog.setUp();
  create.setUp(createAndOpen);
  list.setUp(jobs, follow);
  list.onAction(onDone);
  onRead((job) => jobs.touch(job));
  addEventListener("hashchange", () => openAddress());
  connection.show({ state: "idle" });
  setInterval(tick, 1000);
  setInterval(() => document.hidden || loadList({ keep: true }), LIST_EVERY_MS);
  await identify();
  loadList();
  await openAddress({ isFirst: true });
}

/** Finds out what the key may do: operators have a view of their own. */
async function identify() {
  roles = [];
  let text = "API key";
  if (hasKey()) {
    try {
      const own = await whoAmI();
      roles = own.roles;
      text = `Key ${own.name}`;
      $("key-roles").replaceChildren(`Roles: ${roles.join(", ")}.`);
    } catch (error) {
      $("key-roles").replaceChildren(error.message);
    }
  } else {
    $("key-roles").replaceChildren("Every request needs one.");
    $("key-box").open = true;
  }
  setText($("key-name"), text);
  $("nav-operator").hidden = !roles.includes("admin");
  // Who only operates has no jobs; who is no worker cannot play one.
  $("nav-jobs").hidden = onlyOperates();
  for (const it of ["try", "try-hint"]) $(it).hidden = !["client", "worker"].every((role) => roles.includes(role));
}

const onlyOperates = () => roles.includes("admin") && !roles.includes("client");

async function changeKey(event) {
  event.preventDefault();
  setKey($("key").value.trim());
  stopComplaining();
  jobs.clear();
  await identify();
  $("key-box").open = false;
  $("key-name").parentElement.focus();
  announce($("key-roles").textContent);
  loadList();
  openAddress({ isFirst: true });
}

function loadList(options) {
  if (!onlyOperates()) list.load(options);
}

function closeKeyBox(event) {
  const box = $("key-box");
  const isAway = event.type === "pointerdown" && !box.contains(event.target);
  const isLeft = event.type === "keydown" && event.key === "Escape" && box.contains(document.activeElement);
  if (!box.open || !hasKey() || (!isAway && !isLeft)) return;
  box.open = false;
  if (isLeft) box.querySelector("summary").focus();
}

function skip(event) {
  // The address says what is open, so the link must not change it.
  event.preventDefault();
  $("main").scrollIntoView();
  $("main").focus({ preventScroll: true });
}

/** Shows what the address says: nothing is the list, `job=ID` a job, `operator` the operator's view. */
async function openAddress({ isFirst = false } = {}) {
  const mine = ++opening;
  const address = new URLSearchParams(location.hash.slice(1));
  const id = address.get("job");
  stopComplaining();
  operator.close();
  if (id) {
    await openJob(id, () => mine === opening);
  } else if (roles.includes("admin") && (address.has("operator") || onlyOperates())) {
    show("operator", "Operator");
    operator.open();
  } else {
    show("jobs", "Jobs");
  }
  if (mine !== opening) return;
  follow();
  // Whoever hears the page learns that it is another one; it is as if the page had been loaded.
  if (!isFirst) document.querySelector(`#view-${current()} h1`)?.focus();
  scrollTo(0, 0);
}

function show(name, title) {
  for (const it of VIEWS) $(`view-${it}`).hidden = it !== name;
  for (const [link, of] of [["nav-jobs", ["jobs", "job"]], ["nav-operator", ["operator"]]]) {
    if (of.includes(name)) $(link).setAttribute("aria-current", "page");
    else $(link).removeAttribute("aria-current");
  }
  document.title = `${title} · Image2Model`;
}

const current = () => VIEWS.find((it) => !$(`view-${it}`).hidden);

async function openJob(id, isWanted) {
  try {
    const job = await jobs.read(id);
    if (!isWanted()) return;
    view.open(job, jobs, onDone);
    show("job", titleOf(job));
  } catch (error) {
    if (!isWanted()) return;
    view.openNothing(error.status === 404 ? "There is no such job" : "This job cannot be shown", error.message);
    show("job", "No job");
  }
}

/** The one stream has the jobs of the list, and the one that is open. */
function follow() {
  const open = current() === "job" ? view.openId() : undefined;
  jobs.show([...new Set([open, ...list.shownIds()].filter(Boolean))], open);
}

function onChange(changed) {
  for (const job of changed) {
    list.update(job);
    view.draw(job);
  }
}

/** The open job says each finished file, others only their end; percents would chatter. */
function onEvent(job, name, before) {
  const isOpen = current() === "job" && view.openId() === job.id;
  const finished = finishedFiles(job);
  if (isOpen && (job.status !== job.announced || finished !== job.announcedFiles)) {
    announce(view.describe(job));
  } else if (!isOpen && isOver(job) && before !== job.status) {
    announce(`Job ${shortId(job.id)}: ${word(job.status)}.`);
  }
  job.announced = job.status;
  job.announcedFiles = finished;
  if (job.isHeard) refresh(job.id);
}

/** What events do not tell: when the job ended, and what became of files that said nothing. */
async function refresh(id) {
  try {
    await jobs.read(id);
    if (view.openId() === id) view.readWebhooks(id);
  } catch {
    // A job that is gone stays as it was seen last.
  }
}

function onDone(what, id) {
  if (what === "delete") {
    if (view.openId() === id && current() === "job") location.hash = "";
    list.remove(id);
    jobs.remove(id);
    return;
  }
  follow();
}

/** Creates a job of `files` and opens it. */
async function createAndOpen(files) {
  const body = await createJob(files);
  stopComplaining();
  create.keepThumbnails(body.job_id, files);
  const job = jobs.take(body);
  announce(`Created ${titleOf(job)}.`);
  location.hash = `job=${body.job_id}`;
  loadList({ keep: true });
  return job;
}

async function tryIt() {
  $("try").disabled = true;
  try {
    await playWorker(await createAndOpen(await drawPictures()));
  } catch (error) {
    complain(error);
  } finally {
    $("try").disabled = false;
  }
}

let ticked = Date.now();

function tick() {
  const now = Date.now();
  // The device has slept: what it believes to be a connection need be none.
  if (now - ticked > SLEPT_MS) jobs.reconnect();
  ticked = now;
  list.tick();
  view.tick();
}

setUp();
