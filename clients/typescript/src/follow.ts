// Following jobs by fetch: with a key in a header, and going on after a cut where it was.

import { GatewayError } from "./errors.js";
import { type GatewayEvent, isLast } from "./models.js";
import { Parser, type RawEvent } from "./parser.js";
import { sleep } from "./sleep.js";

export interface FollowOptions {
  /** Goes on after this event. */
  lastEventId?: string;
  /** Ends the following, and its connection. */
  signal?: AbortSignal;
  /** Gives up when the gateway could not be reached for this long. */
  giveUpAfterMs?: number;
}

// Longer than the gateway's heartbeat, so that silence means a dead connection.
const SILENCE_MS = 45_000;

/** The events of jobs until all of them are over. `headers` go with each connection to `url`. */
export async function* follow(
  url: string,
  jobs: readonly string[],
  headers: Record<string, string>,
  { lastEventId, signal, giveUpAfterMs = 60_000 }: FollowOptions,
): AsyncGenerator<GatewayEvent, void, undefined> {
  const open = new Set(jobs);
  let retry = 1000;
  let lastContact = Date.now();
  while (open.size > 0 && !signal?.aborted) {
    let failure: unknown;
    const connection = new Connection(signal);
    try {
      const all = { ...headers, Accept: "text/event-stream", ...(lastEventId ? { "Last-Event-ID": lastEventId } : {}) };
      const parser = new Parser();
      for await (const text of connection.read(url, all)) {
        lastContact = Date.now();
        for (const raw of parser.take(text)) {
          const event = read(raw);
          if (!event) continue;
          lastEventId = event.id ?? lastEventId;
          if (isLast(event)) open.delete(event.data.job_id);
          yield event;
        }
        retry = parser.retry ?? retry;
      }
      if (connection.isOver) return;
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof GatewayError) throw error;
      failure = error;
    } finally {
      connection.close();
    }
    if (failure && Date.now() - lastContact > giveUpAfterMs) throw GatewayError.unreachable(failure);
    if (open.size > 0) await sleep(retry * (1 + Math.random() / 2), signal);
  }
}

/** Whoever follows asks for no timeout, and comes back when there is one. */
function read(raw: RawEvent): GatewayEvent | undefined {
  if (raw.name === "connection_timeout") return undefined;
  return { ...raw, data: JSON.parse(raw.data) } as GatewayEvent;
}

class Connection {
  /** Whether the gateway said that there is nothing more. */
  isOver = false;
  readonly #controller = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.#controller.abort();
  #timer?: ReturnType<typeof setTimeout>;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
  }

  async *read(url: string, headers: Record<string, string>): AsyncGenerator<string, void, undefined> {
    this.#stayAwake();
    const answer = await fetch(url, { headers, cache: "no-store", signal: this.#controller.signal });
    if (answer.status === 204) {
      this.isOver = true;
      return;
    }
    if (!answer.ok || !answer.body) throw await GatewayError.of(answer);
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      this.#stayAwake();
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  }

  #stayAwake(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#abort, SILENCE_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#controller.abort();
  }
}
