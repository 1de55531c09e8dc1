// Follows jobs with fetch, which can send the API key in a header, and resumes broken connections.

import { GatewayError } from "./errors.js";
import { type GatewayEvent, isLast } from "./models.js";
import { EventStreamParser, type RawEvent } from "./parser.js";
import { sleep } from "./sleep.js";

export interface FollowOptions {
  /** Resumes after this event. */
  lastEventId?: string;
  /** Closes the connection and ends the iteration. */
  signal?: AbortSignal;
  /** Throws `UNREACHABLE` when the gateway is unreachable for this long. */
  giveUpAfterMs?: number;
}

// Longer than the gateway's heartbeat interval, so an idle connection is dead.
const IDLE_TIMEOUT_MS = 45_000;

/** Yields the events of `jobs` until all of them have ended. `headers` are sent with each request to `url`. */
export async function* follow(
  url: string,
  jobs: readonly string[],
  headers: Record<string, string>,
  { lastEventId, signal, giveUpAfterMs = 60_000 }: FollowOptions,
): AsyncGenerator<GatewayEvent, void, undefined> {
  const openJobs = new Set(jobs);
  let retryMs = 1000;
  let lastContact = Date.now();
  while (openJobs.size > 0 && !signal?.aborted) {
    let failure: unknown;
    const connection = new Connection(signal);
    try {
      const resume = lastEventId ? { "Last-Event-ID": lastEventId } : {};
      const requestHeaders = { ...headers, Accept: "text/event-stream", ...resume };
      const parser = new EventStreamParser();
      for await (const text of connection.read(url, requestHeaders)) {
        lastContact = Date.now();
        for (const raw of parser.feed(text)) {
          const event = parseEvent(raw);
          if (!event) continue;
          lastEventId = event.id ?? lastEventId;
          if (isLast(event)) openJobs.delete(event.data.job_id);
          yield event;
        }
        retryMs = parser.retryMs ?? retryMs;
      }
      if (connection.ended) return;
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof GatewayError) throw error;
      failure = error;
    } finally {
      connection.close();
    }
    if (failure && Date.now() - lastContact > giveUpAfterMs) throw GatewayError.unreachable(failure);
    if (openJobs.size > 0) await sleep(retryMs * (1 + Math.random() / 2), signal);
  }
}

/** Drops `connection_timeout`, because the caller does not see reconnects. */
function parseEvent(raw: RawEvent): GatewayEvent | undefined {
  if (raw.name === "connection_timeout") return undefined;
  return { ...raw, data: JSON.parse(raw.data) } as GatewayEvent;
}

class Connection {
  /** Whether the gateway returned 204: no further events. */
  ended = false;
  readonly #controller = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.#controller.abort();
  #timer?: ReturnType<typeof setTimeout>;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
  }

  async *read(url: string, headers: Record<string, string>): AsyncGenerator<string, void, undefined> {
    this.#resetIdleTimer();
    const response = await fetch(url, { headers, cache: "no-store", signal: this.#controller.signal });
    if (response.status === 204) {
      this.ended = true;
      return;
    }
    if (!response.ok || !response.body) throw await GatewayError.fromResponse(response);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      this.#resetIdleTimer();
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  }

  #resetIdleTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#abort, IDLE_TIMEOUT_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#controller.abort();
  }
}
