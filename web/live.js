// The event stream of the open job, and whether it is alive.

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

/** One EventSource at a time. `renew` gives a fresh link, or nothing if there is nothing left to follow. */
export class Live {
  #source;
  #timer;
  #lastId = "0-0";
  #attempt = 0;
  #renew;
  #onEvent;
  #onState;

  constructor({ onEvent, onState }) {
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  /** Follows `link` from the job's first event on. */
  open(link, renew) {
    this.close();
    this.#renew = renew;
    this.#lastId = "0-0";
    this.#attempt = 0;
    this.#connect(link);
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  }

  #connect(link) {
    this.#onState(this.#attempt === 0 ? "connecting" : "reconnecting");
    const url = new URL(link, location.href);
    url.searchParams.set("last_event_id", this.#lastId);
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => {
      this.#onState("live");
    };
    source.onerror = () => {
      if (this.#source !== source) return;
      this.#onState("reconnecting");
      // The browser comes back by itself, unless it was refused: an old ticket, or a job that is gone.
      if (source.readyState === EventSource.CLOSED) this.#later();
    };
    for (const name of EVENTS) source.addEventListener(name, (event) => this.#take(source, name, event));
  }

  #take(source, name, event) {
    if (this.#source !== source) return;
    this.#attempt = 0;
    const repeats = event.lastEventId === this.#lastId;
    if (event.lastEventId) this.#lastId = event.lastEventId;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    if (LAST.includes(name)) {
      this.close();
      this.#onState("ended");
    }
    this.#onEvent(name, data, { time: timeOf(this.#lastId), repeats });
  }

  #later() {
    const wait = Math.min(MAX_WAIT_MS, 1000 * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.#timer = setTimeout(async () => {
      try {
        const link = await this.#renew();
        if (link) this.#connect(link);
        else this.#onState("ended");
      } catch {
        this.#later();
      }
    }, wait);
  }
}

/** The ids of events begin with the time they were written at. */
function timeOf(id) {
  const ms = Number.parseInt(id, 10);
  return ms > 0 ? ms : Date.now();
}
