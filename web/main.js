// Entry point: the API key, the views and their URL fragments, and the event stream that updates them.

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
/** Incremented by each navigation, so that one that was superseded while loading is dropped. */
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

/** Loads the roles of the key and shows the views and buttons that they permit. */
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
    byId("key-roles").replaceChildren("Every request requires an API key.");
    byId("key-box").open = true;
  }
  setText(byId("key-name"), text);
  byId("nav-operator").hidden = !roles.includes("admin");
  // An admin key without the client role has no jobs. “Try it” also needs the worker role.
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
  // The URL fragment selects the view, so the link must not change it.
  event.preventDefault();
  byId("main").scrollIntoView();
  byId("main").focus({ preventScroll: true });
}

/** Opens the view in the URL fragment: `job=ID` a job, `operator` the operator view, otherwise the list. */
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
  // The focus on the heading makes screen readers announce the new view, as after a page load.
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
    jobView.showUnavailable(error.status === 404 ? "Job not found" : "Cannot load this job", error.message);
    showView("job", "Job not found");
  }
}

/** Streams the jobs of the list and the open job. */
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

/** Announces each finished file of the open job, and only the end of others. Progress is not announced. */
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

/** Loads fields that events do not contain: the end time, and the status of files without events. */
async function refresh(id) {
  try {
    await jobStore.load(id);
    if (jobView.openId() === id) jobView.readWebhooks(id);
  } catch {
    // A deleted job keeps its last known state.
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

/** Creates a job from `files` and opens it. */
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
  // The device was suspended, so the connection may be dead without an error.
  if (now - lastTick > SUSPEND_THRESHOLD_MS) jobStore.reconnect();
  lastTick = now;
  jobList.tick();
  jobView.tick();
}

setUp();
