// Runs work while a lock is held and renewed, and aborts it when the lock is lost.

import { GatewayError } from "./errors.js";
import type { Lock } from "./models.js";
import { sleep } from "./sleep.js";

export interface LockOptions {
  /** How long the lock is held without a renewal; default 30. */
  ttlSecs?: number;
  /** How long to wait for the lock; default 0. */
  waitSecs?: number;
}

export interface WithLockOptions extends LockOptions {
  /** Aborts the work. */
  signal?: AbortSignal;
}

/** The lock requests of the client. */
export interface LockApi {
  acquireLock(resource: string, options: LockOptions): Promise<Lock>;
  extendLock(lock: Lock, ttlSecs: number): Promise<Lock>;
  releaseLock(lock: Lock): Promise<void>;
}

/**
 * Holds a lock while `work` runs, and renews it every third of its TTL. The signal of `work` is aborted when the lock
 * is lost or its TTL ends without a renewal. Then, once `work` has settled, this rejects with that error, regardless of
 * the result of `work`.
 */
export async function withLock<T>(
  api: LockApi,
  resource: string,
  work: (signal: AbortSignal, lock: Lock) => Promise<T>,
  { ttlSecs = 30, waitSecs = 0, signal }: WithLockOptions,
): Promise<T> {
  signal?.throwIfAborted();
  const lock = await api.acquireLock(resource, { ttlSecs, waitSecs });
  const workAbort = new AbortController();
  const renewalAbort = new AbortController();
  const abortWork = () => workAbort.abort(signal?.reason);
  signal?.addEventListener("abort", abortWork);
  if (signal?.aborted) abortWork();
  const renewal = renewUntilLost(api, lock, ttlSecs, workAbort, renewalAbort.signal);
  try {
    const result = await work(workAbort.signal, lock);
    workAbort.signal.throwIfAborted();
    return result;
  } catch (error) {
    // Aborted work may throw any error; report the reason of the abort instead.
    throw workAbort.signal.aborted ? workAbort.signal.reason : error;
  } finally {
    renewalAbort.abort();
    signal?.removeEventListener("abort", abortWork);
    await renewal;
    // A lock that cannot be released expires after its TTL.
    await api.releaseLock(lock).catch(() => {});
  }
}

/** Renews `lock` until `stop` is aborted, or aborts `workAbort` when the lock is lost. */
async function renewUntilLost(
  api: LockApi,
  lock: Lock,
  ttlSecs: number,
  workAbort: AbortController,
  stop: AbortSignal,
): Promise<void> {
  const ttlMs = ttlSecs * 1000;
  let deadline = Date.now() + ttlMs;
  for (;;) {
    await sleep(Math.min(ttlMs / 3, deadline - Date.now()), stop);
    if (stop.aborted) return;
    const requestedAt = Date.now();
    const expired = sleep(deadline - requestedAt, stop).then(
      () => new GatewayError(`lock ${lock.resource} was not renewed before its TTL ended`, "LOCK_LOST"),
    );
    const renewed = api.extendLock(lock, ttlSecs).then(() => undefined, (error: GatewayError) => error);
    const failure = await Promise.race([renewed, expired]);
    if (stop.aborted) return;
    if (!failure) {
      deadline = requestedAt + ttlMs;
    } else if (failure.code === "LOCK_LOST") {
      workAbort.abort(failure);
      return;
    }
  }
}
