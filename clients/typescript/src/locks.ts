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

export interface HoldOptions extends LockOptions {
  /** Ends the work from outside. */
  signal?: AbortSignal;
}

/** What the gateway does for locks. */
export interface LockCalls {
  acquireLock(resource: string, options: LockOptions): Promise<Lock>;
  extendLock(lock: Lock, ttlSecs: number): Promise<Lock>;
  releaseLock(lock: Lock): Promise<void>;
}

/**
 * Holds a lock while `work` runs, renewing it at each third of its time. The signal that `work` is given is aborted as
 * soon as the lock is known to be lost, or could not be renewed for its whole time. Then this fails with that error,
 * whatever `work` answers, once `work` has come to its end.
 */
export async function holding<T>(
  calls: LockCalls,
  resource: string,
  work: (signal: AbortSignal, lock: Lock) => Promise<T>,
  { ttlSecs = 30, waitSecs = 0, signal }: HoldOptions,
): Promise<T> {
  signal?.throwIfAborted();
  const lock = await calls.acquireLock(resource, { ttlSecs, waitSecs });
  const ended = new AbortController();
  const done = new AbortController();
  const stop = () => ended.abort(signal?.reason);
  signal?.addEventListener("abort", stop);
  if (signal?.aborted) stop();
  const renewing = renew(calls, lock, ttlSecs, ended, done.signal);
  try {
    const answer = await work(ended.signal, lock);
    ended.signal.throwIfAborted();
    return answer;
  } catch (error) {
    // Work that gives up since its lock is lost says so in a way of its own.
    throw ended.signal.aborted ? ended.signal.reason : error;
  } finally {
    done.abort();
    signal?.removeEventListener("abort", stop);
    await renewing;
    // What cannot be given back ends by itself.
    await calls.releaseLock(lock).catch(() => {});
  }
}

/** Keeps `lock` until `done`, or aborts `ended`. */
async function renew(
  calls: LockCalls,
  lock: Lock,
  ttlSecs: number,
  ended: AbortController,
  done: AbortSignal,
): Promise<void> {
  const ttlMs = ttlSecs * 1000;
  let end = Date.now() + ttlMs;
  for (;;) {
    await sleep(Math.min(ttlMs / 3, end - Date.now()), done);
    if (done.aborted) return;
    const askedAt = Date.now();
    const late = sleep(end - askedAt, done).then(
      () => new GatewayError(`the lock ${lock.resource} could not be renewed in time`, "LOCK_LOST"),
    );
    const renewed = calls.extendLock(lock, ttlSecs).then(() => undefined, (error: GatewayError) => error);
    const failure = await Promise.race([renewed, late]);
    if (done.aborted) return;
    if (!failure) {
      end = askedAt + ttlMs;
    } else if (failure.code === "LOCK_LOST") {
      ended.abort(failure);
      return;
    }
  }
}
