// Puts the page together: key, new job, list, and the job that is open.

import { call, createJob, getJob, getResult, setKey, useKey } from "./api.js";
import * as create from "./create.js";
import { $, announce, complain, stopComplaining } from "./dom.js";
import { apply, describe, finishedFiles, isOver, jobOf, shortId, word } from "./job.js";
import * as view from "./job-view.js";
import * as list from "./list.js";
import { Live } from "./live.js";
import { drawPictures, playWorker } from "./try.js";

const LIST_EVERY_MS = 15_000;

let job;
let frame;
const live = new Live({ onEvent, onState: view.setConnection });

function setUp() {
  $("key").value = useKey($("key").dataset.default);
  $("key-form").addEventListener("submit", changeKey);
  $("notice-close").addEventListener("click", stopComplaining);
  $("skip").addEventListener("click", skipToJob);
  $("try").addEventListener("click", tryIt);
  create.setUp(createAndOpen);
  list.setUp();
  list.load();
  addEventListener("hashchange", openFromAddress);
  openFromAddress();
  setInterval(view.tick, 1000);
  setInterval(list.tick, 5000);
  setInterval(() => document.hidden || !$("more").hidden || list.load(), LIST_EVERY_MS);
}

function changeKey(event) {
  event.preventDefault();
  setKey($("key").value.trim());
  stopComplaining();
  announce("The key is in use.");
  list.load();
  openFromAddress();
}

function skipToJob(event) {
  // The address holds the open job, so the link must not change it.
  event?.preventDefault();
  $("open-job").scrollIntoView();
  $("open-job").focus({ preventScroll: true });
}

/** Creates a job of `files` and opens it; nothing if it was refused. */
async function createAndOpen(files) {
  try {
    const body = await createJob(files);
    stopComplaining();
    create.keepThumbnails(body.job_id, files);
    location.hash = `job=${body.job_id}`;
    list.load();
    return jobOf(body);
  } catch (error) {
    complain(error);
    return undefined;
  }
}

async function tryIt() {
  $("try").disabled = true;
  try {
    const created = await createAndOpen(await drawPictures());
    if (created) await playWorker(created);
  } catch (error) {
    complain(error);
  } finally {
    $("try").disabled = false;
  }
}

async function openFromAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("job");
  live.close();
  job = undefined;
  list.mark(id);
  if (!id) return view.clear();
  try {
    const opened = jobOf(await getJob(id));
    // Another job may have been chosen meanwhile.
    if (!location.hash.includes(id)) return undefined;
    open(opened);
  } catch (error) {
    view.clear();
    complain(error);
  }
  return undefined;
}

function open(opened) {
  job = opened;
  view.show(job, { onCancel: cancel });
  live.open(job.links.stream, async () => {
    const fresh = jobOf(await getJob(opened.id));
    return isOver(fresh) ? undefined : fresh.links.stream;
  });
  for (const file of job.files) readResult(job, file);
  // Below the list, it would open out of sight.
  if (matchMedia("(max-width: 56rem)").matches) skipToJob();
}

function onEvent(name, data, { time, repeats }) {
  apply(job, name, data);
  // What repeats an id only adds up the event before it.
  if (!repeats) view.addEvent(name, describe(name, data), time);
  changed();
  for (const file of job.files) readResult(job, file);
  if (isOver(job)) refresh(job);
}

/** Shows the job before the next frame. The past, which a stream begins with, is over by then. */
function changed() {
  frame ??= requestAnimationFrame(() => {
    frame = undefined;
    if (!job) return;
    view.draw(job);
    list.update(job);
    announce(`Job ${shortId(job.id)}: ${word(job.status)}, ${finishedFiles(job)} of ${job.files.length} files finished.`);
  });
}

async function readResult(of, file) {
  if (file.status !== "completed" || file.result || file.isRead) return;
  file.isRead = true;
  try {
    file.result = (await getResult(of, file)).result;
    changed();
  } catch {
    // Read again after the job's next event, or when it is opened again.
    file.isRead = false;
  }
}

/** What events do not tell: when the job ended, and what became of files that said nothing. */
async function refresh(seen) {
  try {
    const fresh = jobOf(await getJob(seen.id));
    Object.assign(seen, { status: fresh.status, error: fresh.error, startedAt: fresh.startedAt, endedAt: fresh.endedAt });
    fresh.files.forEach((it, index) => {
      const { status, progress, error, attempt } = it;
      Object.assign(seen.files[index], { status, progress, error, attempt });
      readResult(seen, seen.files[index]);
    });
    changed();
  } catch {
    // A job that is gone stays as it was seen last.
  }
}

async function cancel(event) {
  const cancelled = job;
  event.target.disabled = true;
  try {
    await call("POST", cancelled.links.cancel);
    await refresh(cancelled);
  } catch (error) {
    complain(error);
  } finally {
    event.target.disabled = false;
  }
}

setUp();
