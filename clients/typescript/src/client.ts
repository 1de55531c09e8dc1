// The client: the requests of the API.

import { GatewayError } from "./errors.js";
import { type FollowOptions, follow } from "./follow.js";
import { type LockOptions, type WithLockOptions, withLock } from "./locks.js";
import type {
  Downloads,
  GatewayEvent,
  Invalidated,
  Invalidation,
  Job,
  JobPage,
  JobProgress,
  JobStatus,
  JobSummary,
  Lock,
  NewFile,
  NewModel,
  RateLimits,
  Status,
  StoredModel,
  Ticket,
} from "./models.js";
import { sleep } from "./sleep.js";

export interface GatewayClientOptions {
  /** How long a failed request is retried, if repeating it is safe. */
  retryForMs?: number;
}

export interface ListOptions {
  status?: Status;
  createdAfter?: string;
  limit?: number;
  cursor?: string;
}

interface ApiRequest {
  method: string;
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  /** Whether repeating the request is safe (default). Others are repeated only after status 429 or 503. */
  idempotent?: boolean;
}

const RETRYABLE_STATUSES = [429, 502, 503, 504];
const TIMEOUT_MS = 10_000;
const INITIAL_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5000;

/** A client of the gateway at `baseUrl` with the API key `key`. Methods reject with `GatewayError`. */
export class GatewayClient {
  readonly #baseUrl: string;
  readonly #headers: Record<string, string>;
  readonly #retryForMs: number;

  constructor(baseUrl: string, key: string, { retryForMs = 30_000 }: GatewayClientOptions = {}) {
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#headers = { Authorization: `Bearer ${key}` };
    this.#retryForMs = retryForMs;
  }

  /** Creates one job with `files`: names or `NewFile` objects. A retried request does not create a second job. */
  createJob(
    files: readonly (string | NewFile)[],
    params: Record<string, unknown> = {},
    idempotencyKey: string = randomIdempotencyKey(),
  ): Promise<Job> {
    const body = { files: files.map((file) => (typeof file === "string" ? { filename: file } : file)), params };
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.#send<Job>({ method: "POST", path: "/api/v1/jobs", body, headers });
  }

  job(id: string): Promise<Job> {
    return this.#send<Job>({ method: "GET", path: jobPath(id) });
  }

  /** Returns one page of the caller's jobs, newest first. */
  listJobs(options: ListOptions = {}): Promise<JobPage> {
    const { createdAfter, ...rest } = options;
    const query = { ...rest, ...(createdAfter === undefined ? {} : { created_after: createdAfter }) };
    const search = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
    return this.#send<JobPage>({ method: "GET", path: `/api/v1/jobs?${search}` });
  }

  /** Yields all of the caller's jobs, newest first, fetching one page at a time. */
  async *jobs(status?: Status): AsyncGenerator<JobSummary, void, undefined> {
    let options: ListOptions = { limit: 100, ...(status ? { status } : {}) };
    for (;;) {
      const page = await this.listJobs(options);
      yield* page.jobs;
      if (!page.next_cursor) return;
      options = { ...options, cursor: page.next_cursor };
    }
  }

  progress(id: string): Promise<JobProgress> {
    return this.#send<JobProgress>({ method: "GET", path: `${jobPath(id)}/progress` });
  }

  /** Returns the finished files of a job. */
  downloads(id: string): Promise<Downloads> {
    return this.#send<Downloads>({ method: "GET", path: `/api/v1/download/${encodeURIComponent(id)}/all` });
  }

  /** Cancels a job and returns its new status, which is `cancelling` while a worker still processes it. */
  async cancel(id: string): Promise<Status> {
    return (await this.#send<JobStatus>({ method: "POST", path: `${jobPath(id)}/cancel`, idempotent: false })).status;
  }

  /** Retries the failed files of a job. */
  retry(id: string): Promise<Job> {
    return this.#send<Job>({ method: "POST", path: `${jobPath(id)}/retry`, idempotent: false });
  }

  async delete(id: string): Promise<void> {
    await this.#send<void>({ method: "DELETE", path: jobPath(id) });
  }

  /** Creates a ticket for `listenWithEventSource`, for a browser without an API key. */
  ticket(id: string): Promise<Ticket> {
    return this.#send<Ticket>({ method: "POST", path: `${jobPath(id)}/ticket` });
  }

  /** Returns the caller's rate limits and their remaining requests. This request does not count. */
  rateLimits(): Promise<RateLimits> {
    return this.#send<RateLimits>({ method: "GET", path: "/api/v1/rate-limits" });
  }

  /**
   * Acquires a lock such as `job:ID`, or fails with `LOCK_UNAVAILABLE`. The protected resource must check
   * `fencing_token`.
   */
  acquireLock(resource: string, { ttlSecs = 30, waitSecs = 0 }: LockOptions = {}): Promise<Lock> {
    const body = { ttl_secs: ttlSecs, wait_secs: waitSecs };
    return this.#send<Lock>({ method: "POST", path: lockPath(resource), body, idempotent: false });
  }

  /** Extends a lock to `ttlSecs` from now, or fails with `LOCK_LOST`. */
  extendLock(lock: Lock, ttlSecs = 30): Promise<Lock> {
    const body = { token: lock.token, ttl_secs: ttlSecs };
    return this.#send<Lock>({ method: "PATCH", path: lockPath(lock.resource), body });
  }

  async releaseLock(lock: Lock): Promise<void> {
    const path = `${lockPath(lock.resource)}?token=${encodeURIComponent(lock.token)}`;
    await this.#send<void>({ method: "DELETE", path, idempotent: false });
  }

  /**
   * Runs `work` while holding a lock, and renews the lock. If the lock is lost, aborts the signal of `work` and fails
   * with `LOCK_LOST`.
   */
  withLock<T>(
    resource: string,
    work: (signal: AbortSignal, lock: Lock) => Promise<T>,
    options: WithLockOptions = {},
  ): Promise<T> {
    return withLock(this, resource, work, options);
  }

  /** Returns the cached data of a model, or fails with `MODEL_NOT_FOUND`. */
  model<T = unknown>(id: string): Promise<T> {
    return this.#send<T>({ method: "GET", path: modelPath(id) });
  }

  /** Caches the data of a model with its TTL and tags. */
  putModel(id: string, model: NewModel): Promise<StoredModel> {
    return this.#send<StoredModel>({ method: "PUT", path: modelPath(id), body: model });
  }

  async deleteModel(id: string): Promise<void> {
    await this.#send<void>({ method: "DELETE", path: modelPath(id) });
  }

  /** Removes cached values by `tag` or `pattern`. Needs the admin role. */
  invalidate(target: Invalidation): Promise<Invalidated> {
    return this.#send<Invalidated>({ method: "POST", path: "/api/v1/admin/cache/invalidate", body: target });
  }

  /**
   * Yields the events of up to 100 jobs, on one connection, until all of them have ended. Reopens a broken connection
   * after the last event, without lost or repeated events.
   */
  follow(jobs: string | readonly string[], options: FollowOptions = {}): AsyncGenerator<GatewayEvent, void, undefined> {
    const ids = typeof jobs === "string" ? [jobs] : jobs;
    const [only] = ids;
    const path =
      ids.length === 1 && only !== undefined
        ? `${jobPath(only)}/progress/stream`
        : `/api/v1/progress/stream?jobs=${ids.map(encodeURIComponent).join(",")}`;
    return follow(this.#baseUrl + path, ids, this.#headers, options);
  }

  async #send<T>(request: ApiRequest): Promise<T> {
    const deadline = Date.now() + this.#retryForMs;
    for (let backoffMs = INITIAL_BACKOFF_MS; ; backoffMs = Math.min(2 * backoffMs, MAX_BACKOFF_MS)) {
      const [response, failure] = await this.#attempt(request);
      if (response?.ok) return (response.status === 204 ? undefined : await response.json()) as T;
      const error = response ? await GatewayError.fromResponse(response) : GatewayError.unreachable(failure);
      // 429 and 503 guarantee that the request had no effect; other failures do not.
      const wasRejected = error.status === 429 || error.status === 503;
      const mayRepeat = wasRejected || request.idempotent !== false;
      const isRetryable = mayRepeat && (!response || RETRYABLE_STATUSES.includes(response.status));
      const delayMs = Math.max((error.retryAfter ?? 0) * 1000, backoffMs * (0.5 + Math.random() / 2));
      if (!isRetryable || Date.now() + delayMs > deadline) throw error;
      await sleep(delayMs);
    }
  }

  async #attempt(request: ApiRequest): Promise<[Response | undefined, unknown]> {
    const headers = { ...this.#headers, ...request.headers };
    const body = request.body === undefined ? {} : { body: JSON.stringify(request.body) };
    try {
      const response = await fetch(this.#baseUrl + request.path, {
        method: request.method,
        headers: request.body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...body,
      });
      return [response, undefined];
    } catch (failure) {
      return [undefined, failure];
    }
  }
}

function jobPath(job: string): string {
  return `/api/v1/jobs/${encodeURIComponent(job)}`;
}

function lockPath(resource: string): string {
  return `/api/v1/locks/${encodeURIComponent(resource)}`;
}

function modelPath(id: string): string {
  return `/api/v1/models/${encodeURIComponent(id)}`;
}

/** Must be unique, not unguessable. `crypto.randomUUID` is missing on insecure origins and in older Node. */
function randomIdempotencyKey(): string {
  const random = () => Math.random().toString(36).slice(2).padEnd(11, "0");
  return `${Date.now().toString(36)}-${random()}${random()}`;
}
