// The way of the deployed front-end: its own paths, the job's id in place of a ticket, results right after the end.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import { launchChromium, World } from "./servers.mjs";
import { watch } from "./watching.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

async function start(t) {
  const world = new World(t);
  const origin = await world.origin();
  const gateway = await world.gateway(await world.redis(), { CORS__ORIGINS: origin, SSE__ACCESS: "job_id" });
  return { origin, gateway };
}

const streamOf = (gateway, job) => `${gateway.url}/api/v1/status/tasks/${job}/stream?timeout=60`;

test("results are there as soon as the end is told", async (t) => {
  const { origin, gateway } = await start(t);
  const job = await gateway.createJob("chair.png", "mug.png");
  const watching = await watch(browser, origin, streamOf(gateway, job.job_id));
  await watching.page.evaluate((address) => {
    source.addEventListener("task_completed", (it) => {
      source.close();
      const id = JSON.parse(it.data).result.job_id;
      globalThis.downloads = fetch(`${address}/api/v1/download/${id}/all`, {
        headers: { Authorization: "Bearer a-key" },
      }).then(async (answer) => [answer.status, await answer.json()]);
    });
  }, gateway.url);
  await watching.until("task_queued");
  await gateway.complete(job, "file_000", { rendered_image: { url: "https://models.example/chair.webp" } });
  await gateway.complete(job, "file_001");
  await watching.until("task_completed");

  const [status, { files, ...downloads }] = await watching.page.evaluate(() => downloads);
  assert.equal(status, 200);
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

test("a browser may be faster than who creates the job", async (t) => {
  const { origin, gateway } = await start(t);
  const id = randomUUID();
  const watching = await watch(browser, origin, streamOf(gateway, id));
  const [queued] = await watching.until("task_queued");
  assert.deepEqual([queued.data.status, queued.data.progress, queued.data.job_id], ["queued", 0, id]);
  assert.equal(await watching.page.evaluate(() => source.readyState), 1);
});
