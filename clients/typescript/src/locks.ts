// Work that is done under a lock, and told when the lock is lost.

import { GatewayError } from "./errors.js";
import type { Lock } from "./models.js";
import { sleep } from "./sleep.js";

export interface LockOptions {
  /** How long it is held without a renewal; 30. */
  ttlSecs?: number;
  /** How long to wait for it; 0. */
  waitSecs?: number;
}

export interface WithLockOptions extends LockOptions {
  /** Ends the work from outside. */
  signal?: AbortSignal;
}

/** What the gateway does for locks. */
export interface LockApi {
  acquireLock(resource: string, options: LockOptions): Promise<Lock>;
  extendLock(lock: Lock, ttlSecs: number): Promise<Lock>;
  releaseLock(lock: Lock): Promise<void>;
}

/**
 * Holds a lock while `work` runs, renewing it at each third of its time. The signal that `work` is given is aborted as
 * soon as the lock is known to be lost, or could not be renewed for its whole time. Then this fails with that error,
 * whatever `work` answers, once `work` has come to its end.
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
    // Work that gives up since its lock is lost says so in a way of its own.
    throw workAbort.signal.aborted ? workAbort.signal.reason : error;
  } finally {
    renewalAbort.abort();
    signal?.removeEventListener("abort", abortWork);
    await renewal;
    // What cannot be given back ends by itself.
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
      () => new GatewayError(`the lock ${lock.resource} could not be renewed in time`, "LOCK_LOST"),
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
