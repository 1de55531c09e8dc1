// Compatibility with the deployed front-end: its own paths, `sse.access = "job_id"`, an EventSource without headers,
// results fetched once right after the end, and the `detail` of errors shown unchanged.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import { recordEvents } from "./event-recorder.mjs";
import { launchChromium, TIMEOUT_MS, waitUntil, World } from "./servers.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

async function start(t) {
  const world = new World(t);
  const origin = await world.origin();
  const gateway = await world.gateway(await world.redis(), { CORS__ORIGINS: origin, SSE__ACCESS: "job_id" });
  return { world, origin, gateway };
}

/** Opens the page of a job as the front-end does. Records the requests of the page and the values that it shows. */
async function openFrontEnd(t, { world, origin, gateway }, job) {
  const context = await browser.newContext();
  world.onTeardown(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const requests = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.host === gateway.address && request.method() !== "OPTIONS") requests.push({ path: url.pathname, headers: request.headers() });
  });
  await page.goto(origin);
  await page.evaluate(
    ([api, job]) => {
      globalThis.shown = { percents: [], files: "", error: "", ended: "" };
      const call = async (path) => {
        const response = await fetch(`${api}${path}`, { headers: { Authorization: "Bearer a-key" } });
        const body = await response.json();
        // The page shows the value unchanged, so it must be a string.
        if (!response.ok) shown.error = body.detail || body.message || "unknown error";
        return body;
      };
      globalThis.call = call;
      const source = new EventSource(`${api}/api/v1/status/tasks/${job}/stream?timeout=3600`);
      globalThis.source = source;
      source.addEventListener("task_queued", (event) => shown.percents.push(JSON.parse(event.data).progress));
      source.addEventListener("task_progress", (event) => {
        const { progress, current, total } = JSON.parse(event.data);
        shown.percents.push(progress);
        shown.files = `${current} / ${total}`;
      });
      source.addEventListener("task_completed", async (event) => {
        source.close();
        const { job_id } = JSON.parse(event.data).result;
        shown.downloads = await call(`/api/v1/download/${job_id}/all`);
        shown.ended = "completed";
      });
      source.addEventListener("task_failed", (event) => {
        source.close();
        shown.error = JSON.parse(event.data).error;
        shown.ended = "failed";
      });
    },
    [gateway.url, job],
  );
  const waitForShown = async (ready) => {
    await waitUntil("the values shown by the page", async () => ready(await page.evaluate(() => shown)));
    return page.evaluate(() => shown);
  };
  return { page, requests, waitForShown };
}

const streamUrl = (gateway, job, timeout = 60) => `${gateway.url}/api/v1/status/tasks/${job}/stream?timeout=${timeout}`;

test("a job is streamed without headers and its results are fetched once", async (t) => {
  const world = await start(t);
  const { gateway } = world;
  const job = await gateway.createJob("chair.png", "mug.png");
  const { requests, waitForShown } = await openFrontEnd(t, world, job.job_id);
  await waitForShown((shown) => shown.percents.length > 0);
  await gateway.report(job, "file_000", 40);
  await waitForShown((shown) => shown.percents.includes(20));
  await gateway.complete(job, "file_000", { rendered_image: { url: "https://models.example/chair.webp" } });
  await waitForShown((shown) => shown.files === "1 / 2");
  await gateway.complete(job, "file_001");
  const shown = await waitForShown((shown) => shown.ended);

  assert.deepEqual([shown.ended, shown.error], ["completed", ""]);
  assert.equal(shown.percents[0], 0);
  assert.deepEqual(shown.percents, [...shown.percents].sort((a, b) => a - b));
  const paths = requests.map((request) => request.path);
  assert.deepEqual(paths, [`/api/v1/status/tasks/${job.job_id}/stream`, `/api/v1/download/${job.job_id}/all`]);
  for (const name of ["authorization", "x-api-key"]) assert.ok(!(name in requests[0].headers), name);

  const { files, ...downloads } = shown.downloads;
  assert.deepEqual(downloads, {
    job_id: job.job_id,
    download_urls: ["https://models.example/file_000.glb", "https://models.example/file_001.glb"],
    total_files: 2,
  });
  const model = { size: 81920, mime_type: "model/gltf-binary" };
  assert.deepEqual(
    files.map(({ created_time, ...rest }) => {
      assert.ok(Math.abs(Date.parse(created_time) - Date.now()) < 60_000);
      return rest;
    }),
    [
      { ...model, filename: "file_000.glb", rendered_image: { url: "https://models.example/chair.webp" } },
      { ...model, filename: "file_001.glb", rendered_image: null },
    ],
  );
});

test("a failed job ends the stream with an error text", async (t) => {
  const world = await start(t);
  const job = await world.gateway.createJob("chair.png");
  const { waitForShown, requests } = await openFrontEnd(t, world, job.job_id);
  await world.gateway.fail(job, "file_000", "no object in the picture");
  const shown = await waitForShown((shown) => shown.ended);
  assert.deepEqual([shown.ended, typeof shown.error], ["failed", "string"]);
  assert.ok(shown.error.length > 0);
  assert.deepEqual(requests.map((request) => request.path), [`/api/v1/status/tasks/${job.job_id}/stream`]);
});

test("a cancelled job ends the stream with an error text", async (t) => {
  const world = await start(t);
  const job = await world.gateway.createJob("chair.png");
  const { waitForShown } = await openFrontEnd(t, world, job.job_id);
  await waitForShown((shown) => shown.percents.length > 0);
  await world.gateway.call("POST", job.links.cancel, {});
  const shown = await waitForShown((shown) => shown.ended);
  assert.deepEqual([shown.ended, typeof shown.error], ["failed", "string"]);
});

test("errors have a detail to show", async (t) => {
  const world = await start(t);
  const job = await world.gateway.createJob("chair.png");
  const { page, waitForShown } = await openFrontEnd(t, world, job.job_id);
  const getJson = (path, key = "a-key") =>
    page.evaluate(
      async ([url, key]) => {
        const response = await fetch(url, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
        return { status: response.status, body: await response.json() };
      },
      [world.gateway.url + path, key],
    );
  const unknown = `/api/v1/download/${randomUUID()}/all`;
  for (const [path, key, status, code, detail] of [
    [unknown, "a-key", 404, "JOB_NOT_FOUND", /does not exist/],
    [unknown, "", 403, "AUTHENTICATION_REQUIRED", /^Not authenticated$/],
    ["/api/v1/status/tasks/nonsense/status", "a-key", 400, "INVALID_JOB_ID", /UUID/],
    ["/api/v1/status/jobs/nonsense/progress", "a-key", 400, "INVALID_JOB_ID", /UUID/],
    ["/api/v1/status/tasks/nonsense/stream", "", 400, "INVALID_JOB_ID", /UUID/],
    ["/api/v1/status/invalid-task-id/stream", "", 404, "NOT_FOUND", /does not exist/],
  ]) {
    const { status: actualStatus, body } = await getJson(path, key);
    assert.deepEqual([actualStatus, body.error, body.error_code], [status, true, code], path);
    assert.match(body.detail, detail);
    assert.equal(body.message, body.detail);
  }
  await page.evaluate((path) => call(path), unknown);
  assert.match((await waitForShown((shown) => shown.error)).error, /^job [0-9a-f-]{36} does not exist$/);
});

test("the front-end's polling paths return the same as the job paths", async (t) => {
  const world = await start(t);
  const { gateway } = world;
  const job = await gateway.createJob("chair.png");
  const { page } = await openFrontEnd(t, world, job.job_id);
  await gateway.report(job, "file_000", 40, "meshing");
  const assertSameResponse = async (alias, path) => {
    const [found, expected] = await page.evaluate(
      ([alias, path]) => Promise.all([call(alias), call(path)]),
      [alias, path],
    );
    assert.deepEqual(found, expected, alias);
    return found;
  };
  const id = job.job_id;
  const status = await assertSameResponse(`/api/v1/status/tasks/${id}/status`, `/api/v1/jobs/${id}/status`);
  assert.deepEqual([status.job_id, status.status, status.progress], [id, "processing", 40]);
  const progress = await assertSameResponse(`/api/v1/status/jobs/${id}/progress`, `/api/v1/jobs/${id}/progress`);
  assert.deepEqual(progress, {
    job_id: id,
    status: "processing",
    overall_progress: 40,
    total_files: 1,
    completed_files: 0,
    failed_files: 0,
    files: { file_000: { status: "processing", progress: 40, filename: "chair.png" } },
  });
  for (const name of ["", "/", "/liveness", "/readiness", "/detailed"]) {
    const health = await fetch(`${gateway.url}/api/v1/health${name}`);
    assert.equal(health.status, 200, name);
    assert.equal(typeof (await health.json()).status, "string", name);
  }
});

test("a stream may be opened before its job exists, and reconnects after its time-out", async (t) => {
  const { origin, gateway } = await start(t);
  const id = randomUUID();
  const recorder = await recordEvents(browser, origin, streamUrl(gateway, id, 1));
  const [queued] = await recorder.waitFor("task_queued");
  assert.deepEqual([queued.data.status, queued.data.progress, queued.data.job_id], ["queued", 0, id]);
  const events = await recorder.waitFor("connection_timeout");
  assert.deepEqual(events.map((event) => event.name), ["task_queued", "connection_timeout"]);
  // The response does not stop the browser, so it reconnects.
  await waitUntil("the stream again", async () => {
    const names = (await recorder.events()).map((event) => event.name);
    return names.filter((name) => name === "task_queued").length > 1;
  });
});

test("a permanently rejected stream closes", async (t) => {
  const { origin, gateway } = await start(t);
  const recorder = await recordEvents(browser, origin, streamUrl(gateway, "nonsense"));
  assert.deepEqual(await recorder.waitForClose(), []);
});
