// The client in Node against the real gateway.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";

import { GatewayClient, GatewayError, isLast } from "../dist/index.js";
import { EventStreamParser } from "../dist/parser.js";
import { collect, KEY, startGateway } from "./harness.mjs";

async function connect(t, settings) {
  const { gateway: server, world } = await startGateway(t, settings);
  return { server, world, gateway: new GatewayClient(server.url, KEY, { retryForMs: 3000 }) };
}

const hasCode = (code) => (error) => error instanceof GatewayError && error.code === code;

test("a job from creation to download", async (t) => {
  const { server, gateway } = await connect(t);
  const job = await gateway.createJob(["chair.png", { filename: "mug.png", size: 9 }], { quality: "high" });
  assert.deepEqual(job.files.map((file) => file.filename), ["chair.png", "mug.png"]);
  assert.deepEqual((await gateway.job(job.job_id)).params, { quality: "high" });
  assert.deepEqual((await collect(gateway.jobs("pending"))).map((listed) => listed.job_id), [job.job_id]);

  await server.report(job, "file_000", 40);
  assert.equal((await gateway.progress(job.job_id)).overall_progress, 20);
  await server.complete(job, "file_000");
  await server.fail(job, "file_001", "no object in the picture");
  const events = await collect(gateway.follow(job.job_id));
  assert.deepEqual(events.at(-1).data.summary, { total_files: 2, successful_files: 1, failed_files: 1 });
  assert.deepEqual((await gateway.downloads(job.job_id)).download_urls, ["https://models.example/file_000.glb"]);

  assert.equal((await gateway.retry(job.job_id)).attempt, 2);
  assert.match(await gateway.cancel(job.job_id), /^cancel/);
  await gateway.delete(job.job_id);
  await assert.rejects(gateway.job(job.job_id), hasCode("JOB_NOT_FOUND"));
});

test("a reconnecting stream neither loses nor repeats events", async (t) => {
  const { server, world, gateway: direct } = await connect(t);
  const proxy = await world.proxyTo(server.url);
  const gateway = new GatewayClient(proxy.url, KEY);
  const job = await direct.createJob(["chair.png"]);
  const percents = Array.from({ length: 20 }, (_, i) => i + 1);
  proxy.cutAfter('"file_progress":5', "close");
  proxy.cutAfter('"file_progress":11', "reset");

  const updates = [];
  for await (const event of gateway.follow(job.job_id, { lastEventId: "0-0" })) {
    if (event.name === "file_update") updates.push(event.data.file_progress);
    if (isLast(event)) continue;
    // Each report waits for the event of the previous one.
    const next = percents.shift();
    if (next !== undefined) await server.report(job, "file_000", next);
    else if (updates.at(-1) === 20) await server.complete(job, "file_000");
  }
  assert.deepEqual(updates, [...Array.from({ length: 20 }, (_, i) => i + 1), 100]);
  assert.equal(proxy.pendingCuts, 0);
});

test("one connection follows many jobs", async (t) => {
  const { server, gateway } = await connect(t);
  const jobs = await Promise.all(["a.png", "b.png", "c.png"].map((name) => gateway.createJob([name])));
  await server.complete(jobs[0], "file_000");
  await server.fail(jobs[1], "file_000", "no object");
  const ends = {};
  for await (const event of gateway.follow(jobs.map((job) => job.job_id))) {
    if (isLast(event)) ends[event.data.job_id] = event.name;
    else if (event.name === "task_queued") await server.complete(jobs[2], "file_000");
  }
  assert.deepEqual(ends, {
    [jobs[0].job_id]: "task_completed",
    [jobs[1].job_id]: "task_failed",
    [jobs[2].job_id]: "task_completed",
  });
});

test("aborting the signal ends the stream", async (t) => {
  const { gateway } = await connect(t);
  const job = await gateway.createJob(["chair.png"]);
  const controller = new AbortController();
  const names = [];
  for await (const event of gateway.follow(job.job_id, { signal: controller.signal })) {
    names.push(event.name);
    controller.abort();
  }
  assert.deepEqual(names, ["task_queued"]);
});

test("a repeated request creates one job", async (t) => {
  const { gateway } = await connect(t);
  const [first, second] = await Promise.all([
    gateway.createJob(["chair.png"], {}, "the-same"),
    gateway.createJob(["chair.png"], {}, "the-same"),
  ]);
  assert.equal(first.job_id, second.job_id);
  await assert.rejects(gateway.createJob(["mug.png"], {}, "the-same"), hasCode("IDEMPOTENCY_CONFLICT"));
});

test("errors carry code, status and message", async (t) => {
  const { gateway } = await connect(t);
  const error = await gateway.createJob(["../chair.png"]).catch((error) => error);
  assert.ok(hasCode("VALIDATION_ERROR")(error), error);
  assert.equal(error.status, 422);
  assert.match(error.message, /filename/);
  assert.match(error.requestId, /^[0-9a-f-]{36}$/);
  await assert.rejects(collect(gateway.follow(randomUUID())), hasCode("JOB_NOT_FOUND"));
  await assert.rejects(collect(gateway.follow("not-a-uuid")), hasCode("INVALID_JOB_ID"));
  assert.equal((await gateway.rateLimits()).enforced, true);
});

test("an unreachable gateway fails after the retries", async () => {
  const gateway = new GatewayClient("http://127.0.0.1:1", KEY, { retryForMs: 300 });
  await assert.rejects(gateway.job(randomUUID()), hasCode("UNREACHABLE"));
  await assert.rejects(collect(gateway.follow(randomUUID(), { giveUpAfterMs: 1 })), hasCode("UNREACHABLE"));
});

test("rejected requests are retried and unsafe repeats are not", async (t) => {
  const statuses = [503, 429, 200, 502];
  const server = createServer((_, response) => {
    response.writeHead(statuses.shift(), { "Content-Type": "application/json" });
    response.end('{"job_id":"x","status":"cancelled"}');
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const gateway = new GatewayClient(`http://127.0.0.1:${server.address().port}`, KEY);
  assert.equal(await gateway.cancel("x"), "cancelled");
  await assert.rejects(gateway.cancel("x"), (error) => error.status === 502);
});

test("the parser accepts any chunk boundaries and line endings", () => {
  const text = 'retry: 20\r\n: hello\nid: 1-0\revent: a\r\ndata: {"x":\ndata: 1}\r\n\r\nevent: nothing\n\ndata\ndata:  y\n\n';
  const expected = [{ name: "a", data: '{"x":\n1}', id: "1-0" }, { name: "message", data: "\n y", id: "1-0" }];
  for (let size = 1; size <= text.length; size++) {
    const parser = new EventStreamParser();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...parser.feed(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `chunks of ${size}`);
    assert.equal(parser.retryMs, 20);
  }
});
