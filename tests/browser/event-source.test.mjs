// The browser's EventSource on a page of another origin: its events, across disconnects and restarts.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { recordEvents } from "./event-recorder.mjs";
import { launchChromium, waitUntil, World } from "./servers.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** The origin of a page, and a gateway that allows it by CORS. */
async function start(t) {
  const world = new World(t);
  const redis = await world.redis();
  const origin = await world.origin();
  const settings = { CORS__ORIGINS: origin };
  return { world, redis, origin, settings, gateway: await world.gateway(redis, settings) };
}

test("a page receives all events of a job", async (t) => {
  const { origin, gateway } = await start(t);
  const job = await gateway.createJob("chair.png", "mug.png");
  const recorder = await recordEvents(browser, origin, gateway.url + job.links.stream);
  await recorder.waitFor("task_queued");
  await gateway.report(job, "file_000", 40, "meshing");
  await gateway.complete(job, "file_000");
  await gateway.fail(job, "file_001", "no mesh");
  const events = await recorder.waitFor("task_completed");

  const task = { job_id: job.job_id, task_id: job.job_id };
  const working = { ...task, status: "processing", total: 2, total_files: 2 };
  const chair = { job_id: job.job_id, file_id: "file_000", index: 0, filename: "chair.png" };
  const mug = { job_id: job.job_id, file_id: "file_001", index: 1, filename: "mug.png" };
  assert.deepEqual(
    events.map((event) => [event.name, withoutTimes(event)]),
    [
      ["task_queued", { ...task, status: "queued", progress: 0, total_files: 2 }],
      ["file_update", { ...chair, status: "processing", file_progress: 40, message: "meshing" }],
      ["task_progress", { ...working, progress: 20, current: 0, message: "meshing" }],
      ["file_update", { ...chair, status: "completed", file_progress: 100 }],
      ["task_progress", { ...working, progress: 50, current: 1 }],
      ["file_update", { ...mug, status: "failed", file_progress: 0, error: "no mesh" }],
      ["task_progress", { ...working, progress: 100, current: 2 }],
      [
        "task_completed",
        {
          job_id: job.job_id,
          status: "completed",
          progress: 100,
          result: { job_id: job.job_id },
          summary: { total_files: 2, successful_files: 1, failed_files: 1 },
        },
      ],
    ],
  );
  assert.ok(areSorted(events.map((event) => event.id)));
});

test("a cut connection neither loses nor repeats events", async (t) => {
  const { world, origin, gateway } = await start(t);
  const proxy = await world.proxyTo(gateway.url);
  proxy.cutAfter('"file_progress":5,', "close");
  proxy.cutAfter('"file_progress":10,', "reset");
  // Between the two events of one stream entry, and in the middle of the second.
  proxy.cutAfter('"file_progress":15,"message":"step 15"}\n\n', "close");
  proxy.cutAfter('"progress":20,', "close");
  const job = await gateway.createJob("chair.png");
  const recorder = await recordEvents(browser, origin, proxy.url + job.links.stream);
  await recorder.waitFor("task_queued");
  for (let percent = 1; percent <= 25; percent++) {
    await gateway.report(job, "file_000", percent, `step ${percent}`);
    // The browser has reconnected, so the next cut hits a connection that receives events one by one.
    if (percent % 5 === 0) await recorder.waitFor("task_progress", { progress: percent });
  }
  assert.equal(proxy.pendingCuts, 0);
  assert.equal(proxy.streams.length, 5);
  await gateway.complete(job, "file_000");
  const events = await recorder.waitFor("task_completed");

  const files = events.filter((event) => event.name === "file_update");
  const percents = Array.from({ length: 25 }, (_, i) => i + 1);
  assert.deepEqual(files.map((event) => event.data.file_progress), [...percents, 100]);
  assert.equal(new Set(files.map((event) => event.id)).size, files.length);
  const progress = events.filter((event) => event.name === "task_progress").map((event) => event.data.progress);
  assert.deepEqual(progress, [...progress].sort((a, b) => a - b));
  assert.ok(areSorted(events.map((event) => event.id)));
});

test("the next connection delivers the events that were missed", async (t) => {
  const { world, origin, gateway } = await start(t);
  const proxy = await world.proxyTo(gateway.url);
  proxy.cutAfter('"file_progress":3', "reset");
  const job = await gateway.createJob("chair.png");
  const recorder = await recordEvents(browser, origin, proxy.url + job.links.stream);
  await recorder.waitFor("task_queued");
  // Reports do not wait for the browser, which receives them after it reconnects.
  for (let percent = 1; percent <= 40; percent++) await gateway.report(job, "file_000", percent);
  await waitUntil("the cut", () => proxy.pendingCuts === 0);
  await gateway.complete(job, "file_000");
  const events = await recorder.waitFor("task_completed");
  const files = events.filter((event) => event.name === "file_update").map((event) => event.data.file_progress);
  assert.deepEqual(files, [...Array.from({ length: 40 }, (_, i) => i + 1), 100]);
});

test("a page resumes after a restart of the service", async (t) => {
  const { world, redis, origin, settings, gateway } = await start(t);
  const other = await world.gateway(redis);
  const job = await other.createJob("chair.png");
  const recorder = await recordEvents(browser, origin, gateway.url + job.links.stream);
  await recorder.waitFor("task_queued");
  await other.report(job, "file_000", 10);
  await recorder.waitFor("file_update", { file_progress: 10 });

  await gateway.stop();
  await other.report(job, "file_000", 20);
  await other.report(job, "file_000", 30);
  await world.gateway(redis, { ...settings, SERVER__LISTEN: gateway.address });
  await recorder.waitFor("file_update", { file_progress: 30 });
  await other.report(job, "file_000", 40);
  await other.complete(job, "file_000");
  const events = await recorder.waitFor("task_completed");
  const files = events.filter((event) => event.name === "file_update").map((event) => event.data.file_progress);
  assert.deepEqual(files, [10, 20, 30, 40, 100]);
});

test("after the end of a job, a browser reconnects once and then stops", async (t) => {
  const { world, origin, gateway } = await start(t);
  const proxy = await world.proxyTo(gateway.url);
  const job = await gateway.createJob("chair.png");
  const recorder = await recordEvents(browser, origin, proxy.url + job.links.stream);
  await recorder.waitFor("task_queued");
  await gateway.complete(job, "file_000");
  // The page does not close its EventSource, so the browser reconnects, and the response stops it.
  const events = await recorder.waitForClose();
  const end = events.at(-1);
  assert.deepEqual(events.filter((event) => event.name === "task_completed"), [end]);
  await waitUntil("the second request", () => proxy.streams.length === 2);
  assert.match(proxy.streams[1], new RegExp(`^last-event-id: ${end.id}\r$`, "im"));
});

/** The data of an event without time-dependent fields. */
function withoutTimes({ name, id, data: { timestamp, eta_seconds, ...rest } }) {
  if (name === "task_progress") assert.equal(timestamp, Number.parseInt(id, 10));
  else assert.equal(timestamp, undefined);
  assert.ok(eta_seconds === undefined || Number.isInteger(eta_seconds));
  return rest;
}

/** Whether the ids of stream entries, `milliseconds-sequence`, never decrease. */
function areSorted(ids) {
  const pairs = ids.map((id) => id.split("-").map(Number));
  return pairs.every(([ms, n], i) => i === 0 || ms > pairs[i - 1][0] || (ms === pairs[i - 1][0] && n >= pairs[i - 1][1]));
}
