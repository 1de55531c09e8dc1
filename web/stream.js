// The one event stream of the page, whichever jobs it follows, and whether it is alive.

const EVENTS = [
  "task_queued",
  "task_progress",
  "file_update",
  "task_completed",
  "task_failed",
  "task_cancelled",
  "resync",
  "connection_timeout",
];
const LAST = ["task_completed", "task_failed"];
const MAX_WAIT_MS = 30_000;
const STABLE_MS = 10_000;
/** A stream's id, `m1.` and a token a job, is built anew when the jobs change. `0` stands before a job's first event. */
const PREFIX = "m1.";
const FROM_THE_BEGINNING = "0";

/**
 * Follows a set of jobs on one EventSource, each from its first event on, and goes on where it was after a cut.
 * `link` makes an address for jobs; `onState` hears `idle`, `connecting`, `live`, `reconnecting` with seconds, `offline`,
 * and `refused` if the key is.
 */
export class Stream {
  #wanted = new Set();
  /** How far each job has come. */
  #tokens = new Map();
  #source;
  #connected = [];
  #timer;
  #attempt = 0;
  #opened = Infinity;
  /** Of the present connection; what an older one still says is not heard. */
  #turn = 0;
  #link;
  #onEvent;
  #onState;

  constructor({ link, onEvent, onState }) {
    this.#link = link;
    this.#onEvent = onEvent;
    this.#onState = onState;
    addEventListener("offline", () => this.#wanted.size > 0 && this.#wait());
    addEventListener("online", () => this.#wanted.size > 0 && this.#connect());
  }

  /** Follows these jobs and no others. */
  follow(ids) {
    this.#wanted = new Set(ids);
    if (this.#wanted.size === 0) return this.#rest();
    const isFollowed = [...this.#wanted].every((it) => this.#connected.includes(it));
    if (!isFollowed) this.#connect();
    return undefined;
  }

  /** Comes back at once. */
  retryNow() {
    if (this.#wanted.size > 0) this.#connect();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#source?.close();
    this.#source = undefined;
    this.#connected = [];
  }

  #rest() {
    this.#close();
    this.#attempt = 0;
    this.#onState({ state: "idle" });
  }

  async #connect() {
    this.#close();
    const turn = this.#turn;
    this.#connected = [...this.#wanted];
    this.#onState({ state: "connecting", isAgain: this.#attempt > 0 });
    let answer;
    try {
      answer = await this.#link(this.#connected);
    } catch (error) {
      if (turn !== this.#turn) return undefined;
      // A key that is refused stays so; anything else may pass.
      if (error.status !== 403) return this.#wait();
      this.#rest();
      return this.#onState({ state: "refused" });
    }
    if (turn !== this.#turn) return undefined;
    for (const id of this.#connected) if (!answer.jobs.includes(id)) this.#wanted.delete(id);
    return answer.stream ? this.#open(answer, turn) : this.#rest();
  }

  #open({ jobs, stream }, turn) {
    const url = new URL(stream, location.href);
    const tokens = jobs.map((it) => this.#tokens.get(it) ?? FROM_THE_BEGINNING);
    url.searchParams.set("last_event_id", PREFIX + tokens.join());
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => {
      this.#opened = Date.now();
      this.#onState({ state: "live" });
    };
    source.onerror = () => turn === this.#turn && this.#wait();
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => turn === this.#turn && this.#take(name, event, jobs));
    }
  }

  #take(name, event, jobs) {
    this.#attempt = 0;
    if (name === "connection_timeout") return this.#connect();
    const data = JSON.parse(event.data);
    const before = this.#tokens.get(data.job_id);
    if (event.lastEventId.startsWith(PREFIX)) {
      const tokens = event.lastEventId.slice(PREFIX.length).split(",");
      // "-" is a job that has said nothing yet.
      jobs.forEach((id, index) => tokens[index] !== "-" && this.#tokens.set(id, tokens[index]));
    }
    const token = this.#tokens.get(data.job_id);
    // What repeats an id only adds up the event before it.
    this.#onEvent(name, data, { time: timeOf(token), repeats: token === before });
    if (LAST.includes(name)) {
      this.#wanted.delete(data.job_id);
      this.#connected = this.#connected.filter((it) => it !== data.job_id);
      if (this.#wanted.size === 0) this.#rest();
    }
    return undefined;
  }

  /** Comes back later, and says when; without a network, as soon as there is one. */
  #wait() {
    this.#close();
    // A connection that lasted was a good one, even if nothing was said on it.
    if (Date.now() - this.#opened > STABLE_MS) this.#attempt = 0;
    this.#opened = Infinity;
    if (!navigator.onLine) return this.#onState({ state: "offline" });
    const wait = Math.min(MAX_WAIT_MS, 1000 * 2 ** this.#attempt) * (0.75 + Math.random() / 2);
    this.#attempt += 1;
    const due = Date.now() + wait;
    const tick = () => {
      const left = due - Date.now();
      if (left <= 0) return this.#connect();
      this.#onState({ state: "reconnecting", seconds: Math.ceil(left / 1000) });
      this.#timer = setTimeout(tick, Math.min(left, 1000));
      return undefined;
    };
    return tick();
  }
}

/** The ids of events begin with the time they were written at. */
function timeOf(token) {
  const ms = Number.parseInt(token, 36);
  return ms > 0 ? ms : Date.now();
}
