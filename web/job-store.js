// All jobs that the page has loaded, kept up to date by one event stream.

import { createStreamLink, getJob } from "./api.js";
import { applyEvent, isTerminal, mergeSnapshot, parseJob } from "./job.js";
import { Stream } from "./stream.js";

/** The maximum number of jobs in one stream. */
const MAX_STREAMED_JOBS = 100;
/** The maximum number of events kept for each job. */
const MAX_EVENTS = 1000;

export class JobStore {
  #jobs = new Map();
  #visibleIds = [];
  #changed = new Set();
  #frameRequest;
  #stream;
  #onChange;
  #onEvent;

  /** `onChange` is called with the changed jobs, once per frame; `onEvent` for each event. */
  constructor({ onChange, onEvent, onState }) {
    this.#onChange = onChange;
    this.#onEvent = onEvent;
    this.#stream = new Stream({ createLink: createStreamLink, onEvent: (...event) => this.#handleEvent(...event), onState });
  }

  get(id) {
    return this.#jobs.get(id);
  }

  /** Adds or updates a job from an API response, and returns it. */
  upsert(body) {
    const snapshot = parseJob(body);
    const job = this.#jobs.get(snapshot.id);
    if (!job) {
      this.#jobs.set(snapshot.id, { ...snapshot, events: [], historyLoaded: false });
      return this.#jobs.get(snapshot.id);
    }
    // A response may be older than events that arrived meanwhile, so while the stream is live, its values win. It
    // reports the end of the job as well.
    const isStale = job.isLive && !isTerminal(job) && !isTerminal(snapshot);
    if (isStale) {
      const { status, progress, error } = job;
      const streamedFiles = job.files.map((file) => ({ ...file }));
      mergeSnapshot(job, snapshot);
      Object.assign(job, { status, progress, error });
      const byId = new Map(streamedFiles.map((file) => [file.id, file]));
      for (const file of job.files) Object.assign(file, eventFields(byId.get(file.id)));
    } else {
      mergeSnapshot(job, snapshot);
    }
    this.markChanged(job);
    return job;
  }

  async load(id) {
    return this.upsert(await getJob(id));
  }

  remove(id) {
    this.#jobs.delete(id);
    this.setVisible(this.#visibleIds.filter((other) => other !== id));
  }

  /** Removes all jobs, since the API key has changed. */
  clear() {
    this.#jobs.clear();
    this.setVisible([]);
  }

  /** Streams the events of the jobs `ids` that have not ended, and of `open`, whose event history is shown. */
  setVisible(ids, open) {
    this.#visibleIds = ids;
    const streamed = ids.filter((id) => {
      const job = this.#jobs.get(id);
      return job && !job.historyLoaded && (!isTerminal(job) || id === open);
    });
    this.#stream.follow(streamed.slice(0, MAX_STREAMED_JOBS));
  }

  reconnect() {
    this.#stream.reconnectNow();
  }

  /** Streams a finished job again after a retry. */
  resetHistory(id) {
    const job = this.#jobs.get(id);
    if (job) Object.assign(job, { historyLoaded: false, isLive: false });
  }

  /** Schedules a redraw in the next frame, so that the events that a stream replays at its start are drawn once. */
  markChanged(job) {
    this.#changed.add(job);
    this.#frameRequest ??= requestAnimationFrame(() => {
      this.#frameRequest = undefined;
      const changed = [...this.#changed];
      this.#changed.clear();
      this.#onChange(changed);
    });
  }

  #handleEvent(name, data, { time, isRepeat }) {
    const job = this.#jobs.get(data.job_id);
    if (!job) return;
    const previousStatus = job.status;
    applyEvent(job, name, data);
    if (!isRepeat || name !== "task_progress") {
      job.events.push({ name, data, time });
      if (job.events.length > MAX_EVENTS) job.events.shift();
    }
    job.isLive = true;
    if (isTerminal(job) && (name === "task_completed" || name === "task_failed")) {
      job.historyLoaded = true;
      job.isLive = false;
      job.endedAt ??= time;
    }
    this.markChanged(job);
    this.#onEvent(job, name, previousStatus);
  }
}

/** The fields of a file that events update. */
function eventFields(file) {
  if (!file?.status) return {};
  const { status, progress, error, message } = file;
  return { status, progress, error, message };
}
