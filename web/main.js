// Puts the page together: the key, the views and their addresses, and the one stream that keeps them up to date.

import { createJob, getOwnKey, hasKey, loadKey, setKey } from "./api.js";
import * as confirmDialog from "./confirm-dialog.js";
import * as connection from "./connection.js";
import { announce, byId, clearError, setText, showError } from "./dom.js";
import { finishedCount, isTerminal, jobTitle, shortId, statusLabel } from "./job.js";
import { setOnResult } from "./job-file.js";
import * as jobList from "./job-list.js";
import { JobStore } from "./job-store.js";
import * as jobView from "./job-view.js";
import * as newJob from "./new-job.js";
import * as operator from "./operator.js";
import { drawSamplePictures } from "./sample-pictures.js";
import { simulateWorker } from "./simulated-worker.js";

const LIST_REFRESH_INTERVAL_MS = 15_000;
const SUSPEND_THRESHOLD_MS = 60_000;
const VIEWS = ["jobs", "job", "operator"];

const jobStore = new JobStore({ onChange, onEvent, onState: connection.showState });
let roles = [];
/** Of the address that is being opened; another may have been chosen meanwhile. */
let navigation = 0;

async function setUp() {
  byId("key-input").value = loadKey(byId("key-input").dataset.default);
  byId("key-form").addEventListener("submit", changeKey);
  byId("error-notice-close").addEventListener("click", clearError);
  byId("skip-link").addEventListener("click", skipToContent);
  byId("reconnect").addEventListener("click", () => jobStore.reconnect());
  byId("try-it").addEventListener("click", runSimulation);
  addEventListener("keydown", closeKeyBox);
  addEventListener("pointerdown", closeKeyBox);
  confirmDialog.setUp();
  newJob.setUp(createAndOpen);
  jobList.setUp(jobStore, updateStream);
  jobList.setOnAction(onJobAction);
  setOnResult((job) => jobStore.markChanged(job));
  addEventListener("hashchange", () => openFromHash());
  connection.showState({ state: "idle" });
  setInterval(tick, 1000);
  setInterval(() => document.hidden || refreshList({ keepPages: true }), LIST_REFRESH_INTERVAL_MS);
  await loadKeyRoles();
  refreshList();
  await openFromHash({ isFirst: true });
}

/** Finds out what the key may do: operators have a view of their own. */
async function loadKeyRoles() {
  roles = [];
  let text = "API key";
  if (hasKey()) {
    try {
      const own = await getOwnKey();
      roles = own.roles;
      text = `Key ${own.name}`;
      byId("key-roles").replaceChildren(`Roles: ${roles.join(", ")}.`);
    } catch (error) {
      byId("key-roles").replaceChildren(error.message);
    }
  } else {
    byId("key-roles").replaceChildren("Every request needs one.");
    byId("key-box").open = true;
  }
  setText(byId("key-name"), text);
  byId("nav-operator").hidden = !roles.includes("admin");
  // Who only operates has no jobs; who is no worker cannot play one.
  byId("nav-jobs").hidden = isAdminOnly();
  for (const id of ["try-it", "try-it-hint"]) byId(id).hidden = !["client", "worker"].every((role) => roles.includes(role));
}

const isAdminOnly = () => roles.includes("admin") && !roles.includes("client");

async function changeKey(event) {
  event.preventDefault();
  setKey(byId("key-input").value.trim());
  clearError();
  jobStore.clear();
  await loadKeyRoles();
  byId("key-box").open = false;
  byId("key-name").parentElement.focus();
  announce(byId("key-roles").textContent);
  refreshList();
  openFromHash({ isFirst: true });
}

function refreshList(options) {
  if (!isAdminOnly()) jobList.load(options);
}

function closeKeyBox(event) {
  const box = byId("key-box");
  const isClickOutside = event.type === "pointerdown" && !box.contains(event.target);
  const isEscape = event.type === "keydown" && event.key === "Escape" && box.contains(document.activeElement);
  if (!box.open || !hasKey() || (!isClickOutside && !isEscape)) return;
  box.open = false;
  if (isEscape) box.querySelector("summary").focus();
}

function skipToContent(event) {
  // The address says what is open, so the link must not change it.
  event.preventDefault();
  byId("main").scrollIntoView();
  byId("main").focus({ preventScroll: true });
}

/** Shows what the address says: nothing is the list, `job=ID` a job, `operator` the operator's view. */
async function openFromHash({ isFirst = false } = {}) {
  const thisNavigation = ++navigation;
  const address = new URLSearchParams(location.hash.slice(1));
  const id = address.get("job");
  clearError();
  operator.close();
  if (id) {
    await openJob(id, () => thisNavigation === navigation);
  } else if (roles.includes("admin") && (address.has("operator") || isAdminOnly())) {
    showView("operator", "Operator");
    operator.open();
  } else {
    showView("jobs", "Jobs");
  }
  if (thisNavigation !== navigation) return;
  updateStream();
  // Whoever hears the page learns that it is another one; it is as if the page had been loaded.
  if (!isFirst) document.querySelector(`#view-${currentView()} h1`)?.focus();
  scrollTo(0, 0);
}

function showView(name, title) {
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== name;
  for (const [link, views] of [["nav-jobs", ["jobs", "job"]], ["nav-operator", ["operator"]]]) {
    if (views.includes(name)) byId(link).setAttribute("aria-current", "page");
    else byId(link).removeAttribute("aria-current");
  }
  document.title = `${title} · Image2Model`;
}

const currentView = () => VIEWS.find((view) => !byId(`view-${view}`).hidden);

async function openJob(id, isCurrent) {
  try {
    const job = await jobStore.load(id);
    if (!isCurrent()) return;
    jobView.open(job, jobStore, onJobAction);
    showView("job", jobTitle(job));
  } catch (error) {
    if (!isCurrent()) return;
    jobView.showUnavailable(error.status === 404 ? "There is no such job" : "This job cannot be shown", error.message);
    showView("job", "No job");
  }
}

/** The one stream has the jobs of the list, and the one that is open. */
function updateStream() {
  const open = currentView() === "job" ? jobView.openId() : undefined;
  jobStore.setVisible([...new Set([open, ...jobList.visibleIds()].filter(Boolean))], open);
}

function onChange(changed) {
  for (const job of changed) {
    jobList.update(job);
    jobView.draw(job);
  }
}

/** The open job says each finished file, others only their end; percents would chatter. */
function onEvent(job, name, previousStatus) {
  const isOpen = currentView() === "job" && jobView.openId() === job.id;
  const finished = finishedCount(job);
  if (isOpen && (job.status !== job.announced || finished !== job.announcedFiles)) {
    announce(jobView.statusSummary(job));
  } else if (!isOpen && isTerminal(job) && previousStatus !== job.status) {
    announce(`Job ${shortId(job.id)}: ${statusLabel(job.status)}.`);
  }
  job.announced = job.status;
  job.announcedFiles = finished;
  if (job.historyLoaded) refresh(job.id);
}

/** What events do not tell: when the job ended, and what became of files that said nothing. */
async function refresh(id) {
  try {
    await jobStore.load(id);
    if (jobView.openId() === id) jobView.readWebhooks(id);
  } catch {
    // A job that is gone stays as it was seen last.
  }
}

function onJobAction(action, id) {
  if (action === "delete") {
    if (jobView.openId() === id && currentView() === "job") location.hash = "";
    jobList.remove(id);
    jobStore.remove(id);
    return;
  }
  updateStream();
}

/** Creates a job of `files` and opens it. */
async function createAndOpen(files) {
  const body = await createJob(files);
  clearError();
  newJob.storeThumbnails(body.job_id, files);
  const job = jobStore.upsert(body);
  announce(`Created ${jobTitle(job)}.`);
  location.hash = `job=${body.job_id}`;
  refreshList({ keepPages: true });
  return job;
}

async function runSimulation() {
  byId("try-it").disabled = true;
  try {
    await simulateWorker(await createAndOpen(await drawSamplePictures()));
  } catch (error) {
    showError(error);
  } finally {
    byId("try-it").disabled = false;
  }
}

let lastTick = Date.now();

function tick() {
  const now = Date.now();
  // The device has slept: what it believes to be a connection need be none.
  if (now - lastTick > SUSPEND_THRESHOLD_MS) jobStore.reconnect();
  lastTick = now;
  jobList.tick();
  jobView.tick();
}

setUp();
