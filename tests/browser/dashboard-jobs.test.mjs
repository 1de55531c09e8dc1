// The dashboard: the job list, the job page, and the actions on a job.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { Browser, jobRow, jobStatus, waitForText, waitUntil } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

const button = (scope, name) => scope.getByRole("button", { name });

test("the list shows the live progress of each file, from one stream for all jobs", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  await waitForText(page.locator("#list-empty-title"), "No jobs yet");
  const streams = [];
  page.on("request", (request) => request.url().includes("/stream?") && streams.push(new URL(request.url()).pathname));
  const jobs = [await gateway.createJob("chair.png", "mug.png"), await gateway.createJob("lamp.png")];
  await page.reload();
  for (const [job, name, percent] of [[jobs[0], "chair.png and 1 more", 40], [jobs[1], "lamp.png", 70]]) {
    await gateway.report(job, "file_000", percent);
    await waitForText(jobRow(page, name).locator(".segment-percent"), `${percent} %`);
    await waitForText(jobRow(page, name).locator(".badge"), "processing");
  }
  await gateway.complete(jobs[1], "file_000");
  await waitForText(jobRow(page, "lamp.png").locator(".badge"), "completed");
  await waitForText(jobRow(page, "lamp.png").locator("time"), "just now");
  assert.deepEqual([...new Set(streams)], ["/api/v1/progress/stream"]);
  // One stream for the list, no stream per job.
  assert.equal(streams.length, 1);
  pageErrors.assertNone();
});

test("the list can be filtered and extended page by page", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  for (let i = 0; i < 23; i++) await gateway.createJob(`picture-${i}.png`);
  const failed = await gateway.createJob("broken.png");
  await gateway.fail(failed, "file_000", "no object in the picture");
  await page.reload();
  await waitUntil("the first page", async () => (await page.locator(".row").count()) === 20);
  await button(page, "Show more").click();
  await waitUntil("all jobs", async () => (await page.locator(".row").count()) === 24);
  assert.equal(await button(page, "Show more").isVisible(), false);
  // The focus moves to the first job of the new page.
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "picture-3.png");

  await page.getByLabel("Status").selectOption("failed");
  await waitUntil("the failed job", async () => (await page.locator(".row").count()) === 1);
  await waitForText(page.locator(".row-error"), "every file failed");
  await page.getByLabel("Status").selectOption("cancelled");
  await waitForText(page.locator("#list-empty-title"), "No matching jobs");
  await page.getByLabel("Status").selectOption("");
  await page.getByLabel("Created").selectOption("1");
  await waitUntil("the jobs of the last hour", async () => (await page.locator(".row").count()) === 20);
  pageErrors.assertNone();
});

test("a job can be cancelled, retried and deleted", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  const job = await gateway.createJob("chair.png");
  await page.reload();
  const chair = jobRow(page, "chair.png");
  await button(chair, "Cancel chair.png").click();
  await waitForText(chair.locator(".badge"), "cancelled");
  assert.equal(await button(chair, "Cancel chair.png").isVisible(), false);
  assert.equal((await gateway.call("GET", job.links.self)).status, "cancelled");

  await button(chair, "Retry chair.png").click();
  await waitForText(chair.locator(".badge"), /queued|processing/);
  await gateway.report(job, "file_000", 30);
  await waitForText(chair.locator(".row-percent"), "30 %");
  await gateway.fail(job, "file_000", "the mesh has holes");
  await waitForText(chair.locator(".row-error"), "every file failed");

  await chair.getByRole("link").click();
  await waitForText(page.locator(".file .note"), "the mesh has holes");
  await button(page, "Delete chair.png").click();
  await button(page, "Go back").click();
  assert.equal((await gateway.call("GET", job.links.self)).status, "failed");
  await button(page, "Delete chair.png").click();
  await button(page, "Delete job").click();
  await waitForText(page.locator("#list-empty-title"), "No jobs yet");
  assert.deepEqual((await gateway.call("GET", "/api/v1/jobs")).jobs, []);

  // A link to a deleted job shows an error.
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await waitForText(page.locator("#view-job h1"), "Job not found");
  pageErrors.assertOnlyFailedLoads();
});

test("the job page has a timeline, models, webhooks and its own URL", async (t) => {
  const received = [];
  const receiver = createServer((request, response) => {
    received.push(request.url);
    response.end();
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  t.after(() => receiver.close());
  const settings = {
    WEBHOOKS__SECRETS: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    WEBHOOKS__ALLOW_HTTP: "true",
    WEBHOOKS__ALLOWED_NETWORKS: "127.0.0.0/8",
    WEBHOOKS__POLL_INTERVAL: "20ms",
  };
  const { world, gateway, page, pageErrors } = await browser.open(t, { settings });
  const job = await gateway.call("POST", "/api/v1/jobs", {
    files: [{ filename: "chair.png" }, { filename: "mug.png" }],
    webhook_url: `http://127.0.0.1:${receiver.address().port}/webhook`,
  });
  await gateway.report(job, "file_000", 10, "meshing");
  await gateway.report(job, "file_000", 60, "painting");
  await gateway.complete(job, "file_000", { url: "/web/cube.glb", rendered_image: { url: "/web/cube.svg" } });
  await gateway.complete(job, "file_001", { url: "https://models.example/mug.glb", rendered_image: { url: "https://models.example/mug.png" } });
  await waitUntil("the webhook", () => received.length > 0);

  // The full history, when the link is opened after the end of the job.
  const other = await browser.visit(world, gateway, { key: "a-key", hash: `#job=${job.job_id}` });
  const visited = other.page;
  await waitForText(jobStatus(visited), "completed");
  await waitForText(visited.locator(".timeline li").last().locator(".entry-text"), /^Completed/);
  const entries = await visited.locator(".timeline .entry-text").evaluateAll((elements) => elements.map((element) => element.firstChild.textContent));
  for (const entry of ["Created", "Started", "chair.png started", "chair.png finished", "mug.png finished", "Completed"]) {
    assert.ok(entries.includes(entry), `${entry} is missing in ${entries}`);
  }
  assert.ok(!entries.includes("chair.png 60 %"));
  await visited.getByLabel("Show every step").check();
  await waitForText(visited.locator(".timeline li[data-state=step] .entry-text").first(), /^chair\.png 60 %/);
  const times = await visited.locator(".timeline time").evaluateAll((elements) => elements.map((element) => element.dateTime));
  assert.deepEqual(times, [...times].sort());

  const [download] = await Promise.all([visited.waitForEvent("download"), visited.getByRole("link", { name: "Download file_000.glb" }).click()]);
  assert.equal(download.suggestedFilename(), "file_000.glb");
  await waitUntil("the preview", () => visited.getByRole("img", { name: "Preview of file_000.glb" }).evaluate((image) => image.naturalWidth > 0));
  // A preview on another host is not loaded, only linked.
  assert.equal(await visited.getByRole("img", { name: "Preview of file_001.glb" }).count(), 0);
  assert.equal(await visited.getByRole("link", { name: "Open the preview" }).last().getAttribute("href"), "https://models.example/mug.png");
  await waitForText(visited.locator(".webhooks .badge"), "delivered");
  other.pageErrors.assertNone();

  // The back and forward buttons of the browser switch between list and job.
  await page.reload();
  await jobRow(page, "chair.png and 1 more").getByRole("link").click();
  await waitForText(jobStatus(page), "completed");
  assert.match(await page.title(), /^chair\.png and 1 more/);
  await page.goBack();
  await waitUntil("the list", () => page.locator("#view-jobs").isVisible());
  await page.goForward();
  await waitForText(jobStatus(page), "completed");
  pageErrors.assertNone();
});
