// Locks and models against the real gateway.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { GatewayClient, GatewayError } from "../dist/index.js";
import { KEY, startGateway } from "./harness.mjs";

async function connect(t) {
  const { gateway: server, world } = await startGateway(t);
  return { server, world, gateway: new GatewayClient(server.url, KEY, { retryForMs: 3000 }) };
}

const hasCode = (code) => (error) => error instanceof GatewayError && error.code === code;

test("a lock excludes others, waits, and increases the fencing token", async (t) => {
  const { gateway } = await connect(t);
  const resource = `job:${randomUUID()}`;
  const first = await gateway.acquireLock(resource, { ttlSecs: 20 });
  await assert.rejects(gateway.acquireLock(resource), hasCode("LOCK_UNAVAILABLE"));
  const extended = await gateway.extendLock(first, 60);
  assert.ok(Date.parse(extended.expires_at) > Date.parse(first.expires_at));

  const pending = gateway.acquireLock(resource, { waitSecs: 8 });
  await gateway.releaseLock(first);
  const second = await pending;
  assert.ok(second.fencing_token > first.fencing_token);
  await assert.rejects(gateway.extendLock(first), hasCode("LOCK_LOST"));
  await assert.rejects(gateway.releaseLock(first), hasCode("LOCK_LOST"));
});

test("withLock renews its lock and releases it", async (t) => {
  const { gateway } = await connect(t);
  const resource = `job:${randomUUID()}`;
  const fencingToken = await gateway.withLock(
    resource,
    async (signal, lock) => {
      // Longer than the TTL.
      await new Promise((resolve) => setTimeout(resolve, 2500));
      await assert.rejects(gateway.acquireLock(resource), hasCode("LOCK_UNAVAILABLE"));
      assert.equal(signal.aborted, false);
      return lock.fencing_token;
    },
    { ttlSecs: 1 },
  );
  const next = await gateway.acquireLock(resource);
  assert.ok(next.fencing_token > fencingToken);
  await assert.rejects(gateway.withLock(resource, async () => {}), hasCode("LOCK_UNAVAILABLE"));
});

test("failed work releases its lock and keeps its error", async (t) => {
  const { gateway } = await connect(t);
  const resource = `job:${randomUUID()}`;
  const work = gateway.withLock(resource, async () => {
    throw new Error("no mesh");
  });
  await assert.rejects(work, /no mesh/);
  await gateway.acquireLock(resource);
});

test("a lost lock aborts the work", async (t) => {
  const { gateway } = await connect(t);
  const resource = `job:${randomUUID()}`;
  const work = gateway.withLock(
    resource,
    async (signal, lock) => {
      await gateway.releaseLock(lock);
      await gateway.acquireLock(resource);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return "too late";
    },
    { ttlSecs: 3 },
  );
  await assert.rejects(work, hasCode("LOCK_LOST"));
});

test("a lock that cannot be renewed aborts the work", async (t) => {
  const { server, gateway } = await connect(t);
  const work = gateway.withLock(
    `job:${randomUUID()}`,
    async (signal) => {
      await server.stop();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
    { ttlSecs: 2 },
  );
  await assert.rejects(work, hasCode("LOCK_LOST"));
});

test("the signal of the caller aborts the work", async (t) => {
  const { gateway } = await connect(t);
  const resource = `job:${randomUUID()}`;
  const controller = new AbortController();
  const work = gateway.withLock(
    resource,
    async (signal) => {
      controller.abort(new Error("the user has left"));
      assert.ok(signal.aborted);
    },
    { signal: controller.signal },
  );
  await assert.rejects(work, /the user has left/);
  await gateway.acquireLock(resource);
});

test("models are cached, read and removed", async (t) => {
  const { gateway } = await connect(t);
  const id = `chair-${randomUUID()}`;
  await assert.rejects(gateway.model(id), hasCode("MODEL_NOT_FOUND"));
  const stored = await gateway.putModel(id, { data: { vertices: 8123 }, ttl_secs: 300, tags: ["furniture"] });
  assert.deepEqual(stored.tags, ["furniture"]);
  assert.deepEqual(await gateway.model(id), { vertices: 8123 });
  assert.deepEqual(await gateway.invalidate({ tag: "furniture" }), { removed: 1, complete: true });
  await assert.rejects(gateway.model(id), hasCode("MODEL_NOT_FOUND"));
  await gateway.putModel(id, { data: 1 });
  await gateway.deleteModel(id);
  await assert.rejects(gateway.model(id), hasCode("MODEL_NOT_FOUND"));
});
