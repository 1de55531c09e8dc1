// Every job that the page knows, kept up to date by the one stream.

import { getJob, streamOf } from "./api.js";
import { apply, isOver, jobOf, merge } from "./job.js";
import { Stream } from "./stream.js";

/** One stream takes no more. */
const MAX_FOLLOWED = 100;
/** Kept of each job. */
const MAX_EVENTS = 1000;

export class Jobs {
  #jobs = new Map();
  #shown = [];
  #changed = new Set();
  #frame;
  #stream;
  #onChange;
  #onEvent;

  /** `onChange` hears which jobs changed, once a frame; `onEvent` each event. */
  constructor({ onChange, onEvent, onState }) {
    this.#onChange = onChange;
    this.#onEvent = onEvent;
    this.#stream = new Stream({ link: streamOf, onEvent: (...event) => this.#hear(...event), onState });
  }

  get(id) {
    return this.#jobs.get(id);
  }

  /** Takes in what was read of a job, and returns it. */
  take(body) {
    const read = jobOf(body);
    const job = this.#jobs.get(read.id);
    if (!job) {
      this.#jobs.set(read.id, { ...read, events: [], isHeard: false });
      return this.#jobs.get(read.id);
    }
    // An answer may be older than what the stream has told meanwhile. It tells the end, too.
    const isBehind = job.isLive && !isOver(job) && !isOver(read);
    if (isBehind) {
      const { status, progress, error } = job;
      const states = job.files.map((it) => ({ ...it }));
      merge(job, read);
      Object.assign(job, { status, progress, error });
      const byId = new Map(states.map((it) => [it.id, it]));
      for (const file of job.files) Object.assign(file, pick(byId.get(file.id)));
    } else {
      merge(job, read);
    }
    this.touch(job);
    return job;
  }

  async read(id) {
    return this.take(await getJob(id));
  }

  remove(id) {
    this.#jobs.delete(id);
    this.show(this.#shown.filter((it) => it !== id));
  }

  /** Forgets all: somebody else's key is in use. */
  clear() {
    this.#jobs.clear();
    this.show([]);
  }

  /** Follows these jobs, as far as there is something to hear of them: of `open` its past, too. */
  show(ids, open) {
    this.#shown = ids;
    const wanted = ids.filter((id) => {
      const job = this.#jobs.get(id);
      return job && !job.isHeard && (!isOver(job) || id === open);
    });
    this.#stream.follow(wanted.slice(0, MAX_FOLLOWED));
  }

  reconnect() {
    this.#stream.retryNow();
  }

  /** A job that was over begins again. */
  reopen(id) {
    const job = this.#jobs.get(id);
    if (job) Object.assign(job, { isHeard: false, isLive: false });
  }

  /** Has `job` drawn before the next frame. The past, which a stream begins with, is over by then. */
  touch(job) {
    this.#changed.add(job);
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      const changed = [...this.#changed];
      this.#changed.clear();
      this.#onChange(changed);
    });
  }

  #hear(name, data, { time, repeats }) {
    const job = this.#jobs.get(data.job_id);
    if (!job) return;
    const before = job.status;
    apply(job, name, data);
    if (!repeats || name !== "task_progress") {
      job.events.push({ name, data, time });
      if (job.events.length > MAX_EVENTS) job.events.shift();
    }
    job.isLive = true;
    if (isOver(job) && (name === "task_completed" || name === "task_failed")) {
      job.isHeard = true;
      job.isLive = false;
      job.endedAt ??= time;
    }
    this.touch(job);
    this.#onEvent(job, name, before);
  }
}

/** What events tell of a file. */
function pick(file) {
  if (!file?.status) return {};
  const { status, progress, error, message } = file;
  return { status, progress, error, message };
}
