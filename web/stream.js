// The event stream of the page: one EventSource for all followed jobs, with reconnection.

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
const TERMINAL_EVENTS = ["task_completed", "task_failed"];
const MAX_RECONNECT_DELAY_MS = 30_000;
const STABLE_CONNECTION_MS = 10_000;
/** An event id is `m1.` and one token per job, rebuilt when the jobs change. Token `0` is before the first event. */
const ID_PREFIX = "m1.";
const START_TOKEN = "0";

/**
 * Follows a set of jobs on one EventSource, each from its first event, and resumes after a disconnect.
 * `createLink` creates a stream URL for job ids. `onState` is called with `idle`, `connecting`, `live`, `reconnecting`
 * with the remaining seconds, `offline`, or `refused` if the key is rejected.
 */
export class Stream {
  #jobIds = new Set();
  /** The token of the last event of each job. */
  #tokens = new Map();
  #source;
  #connectedIds = [];
  #timer;
  #attempt = 0;
  #openedAt = Infinity;
  /** Incremented with each connection, so that events of older ones are ignored. */
  #generation = 0;
  #createLink;
  #onEvent;
  #onState;

  constructor({ createLink, onEvent, onState }) {
    this.#createLink = createLink;
    this.#onEvent = onEvent;
    this.#onState = onState;
    addEventListener("offline", () => this.#jobIds.size > 0 && this.#scheduleReconnect());
    addEventListener("online", () => this.#jobIds.size > 0 && this.#connect());
  }

  /** Follows exactly these jobs. */
  follow(ids) {
    this.#jobIds = new Set(ids);
    if (this.#jobIds.size === 0) return this.#goIdle();
    const isFollowed = [...this.#jobIds].every((id) => this.#connectedIds.includes(id));
    if (!isFollowed) this.#connect();
    return undefined;
  }

  /** Reconnects without waiting. */
  reconnectNow() {
    if (this.#jobIds.size > 0) this.#connect();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#generation += 1;
    this.#source?.close();
    this.#source = undefined;
    this.#connectedIds = [];
  }

  #goIdle() {
    this.#close();
    this.#attempt = 0;
    this.#onState({ state: "idle" });
  }

  async #connect() {
    this.#close();
    const generation = this.#generation;
    this.#connectedIds = [...this.#jobIds];
    this.#onState({ state: "connecting", isRetry: this.#attempt > 0 });
    let response;
    try {
      response = await this.#createLink(this.#connectedIds);
    } catch (error) {
      if (generation !== this.#generation) return undefined;
      // A rejected key stays rejected; other errors may be temporary.
      if (error.status !== 403) return this.#scheduleReconnect();
      this.#goIdle();
      return this.#onState({ state: "refused" });
    }
    if (generation !== this.#generation) return undefined;
    for (const id of this.#connectedIds) if (!response.jobs.includes(id)) this.#jobIds.delete(id);
    return response.stream ? this.#open(response, generation) : this.#goIdle();
  }

  #open({ jobs, stream }, generation) {
    const url = new URL(stream, location.href);
    const tokens = jobs.map((id) => this.#tokens.get(id) ?? START_TOKEN);
    url.searchParams.set("last_event_id", ID_PREFIX + tokens.join());
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => {
      this.#openedAt = Date.now();
      this.#onState({ state: "live" });
    };
    source.onerror = () => generation === this.#generation && this.#scheduleReconnect();
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => generation === this.#generation && this.#handleEvent(name, event, jobs));
    }
  }

  #handleEvent(name, event, jobs) {
    this.#attempt = 0;
    if (name === "connection_timeout") return this.#connect();
    const data = JSON.parse(event.data);
    const previousToken = this.#tokens.get(data.job_id);
    if (event.lastEventId.startsWith(ID_PREFIX)) {
      const tokens = event.lastEventId.slice(ID_PREFIX.length).split(",");
      // "-" stands for a job without events.
      jobs.forEach((id, index) => tokens[index] !== "-" && this.#tokens.set(id, tokens[index]));
    }
    const token = this.#tokens.get(data.job_id);
    // An event with the id of the previous one is the job total that follows a file event.
    this.#onEvent(name, data, { time: tokenTime(token), isRepeat: token === previousToken });
    if (TERMINAL_EVENTS.includes(name)) {
      this.#jobIds.delete(data.job_id);
      this.#connectedIds = this.#connectedIds.filter((id) => id !== data.job_id);
      if (this.#jobIds.size === 0) this.#goIdle();
    }
    return undefined;
  }

  /** Reconnects after a delay, counting down; without a network, when the network returns. */
  #scheduleReconnect() {
    this.#close();
    // A connection that lasted this long was stable, even without events.
    if (Date.now() - this.#openedAt > STABLE_CONNECTION_MS) this.#attempt = 0;
    this.#openedAt = Infinity;
    if (!navigator.onLine) return this.#onState({ state: "offline" });
    const delay = Math.min(MAX_RECONNECT_DELAY_MS, 1000 * 2 ** this.#attempt) * (0.75 + Math.random() / 2);
    this.#attempt += 1;
    const reconnectAt = Date.now() + delay;
    const tick = () => {
      const remaining = reconnectAt - Date.now();
      if (remaining <= 0) return this.#connect();
      this.#onState({ state: "reconnecting", seconds: Math.ceil(remaining / 1000) });
      this.#timer = setTimeout(tick, Math.min(remaining, 1000));
      return undefined;
    };
    return tick();
  }
}

/** The time in a token, which starts with the event time in milliseconds, in base 36. */
function tokenTime(token) {
  const ms = Number.parseInt(token, 36);
  return ms > 0 ? ms : Date.now();
}
