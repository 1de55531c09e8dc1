// The dashboard: the list of jobs, a job's page, and what one does with a job.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { Browser, row, state, until, untilText } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

const button = (scope, name) => scope.getByRole("button", { name });

test("the list shows each file's progress as it comes, of every job on one stream", async (t) => {
  const { gateway, page, faults } = await browser.open(t);
  await untilText(page.locator("#list-empty-title"), "No jobs yet");
  const streams = [];
  page.on("request", (it) => it.url().includes("/stream?") && streams.push(new URL(it.url()).pathname));
  const jobs = [await gateway.createJob("chair.png", "mug.png"), await gateway.createJob("lamp.png")];
  await page.reload();
  for (const [job, name, percent] of [[jobs[0], "chair.png and 1 more", 40], [jobs[1], "lamp.png", 70]]) {
    await gateway.report(job, "file_000", percent);
    await untilText(row(page, name).locator(".segment-percent"), `${percent} %`);
    await untilText(row(page, name).locator(".badge"), "processing");
  }
  await gateway.complete(jobs[1], "file_000");
  await untilText(row(page, "lamp.png").locator(".badge"), "completed");
  await untilText(row(page, "lamp.png").locator("time"), "just now");
  assert.deepEqual([...new Set(streams)], ["/api/v1/progress/stream"]);
  // One for the list; none for each job.
  assert.equal(streams.length, 1);
  faults.none();
});

test("the list is filtered, and goes on where a page ends", async (t) => {
  const { gateway, page, faults } = await browser.open(t);
  for (let i = 0; i < 23; i++) await gateway.createJob(`picture-${i}.png`);
  const failed = await gateway.createJob("broken.png");
  await gateway.fail(failed, "file_000", "no object in the picture");
  await page.reload();
  await until("a page", async () => (await page.locator(".row").count()) === 20);
  await button(page, "Show more").click();
  await until("all", async () => (await page.locator(".row").count()) === 24);
  assert.equal(await button(page, "Show more").isVisible(), false);
  // Whoever reads on goes on at the first that came.
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "picture-3.png");

  await page.getByLabel("State").selectOption("failed");
  await until("the failed", async () => (await page.locator(".row").count()) === 1);
  await untilText(page.locator(".row-error"), "every file failed");
  await page.getByLabel("State").selectOption("cancelled");
  await untilText(page.locator("#list-empty-title"), "Nothing matches");
  await page.getByLabel("State").selectOption("");
  await page.getByLabel("Created").selectOption("1");
  await until("the last hour's", async () => (await page.locator(".row").count()) === 20);
  faults.none();
});

test("a job is cancelled, retried and deleted", async (t) => {
  const { gateway, page, faults } = await browser.open(t);
  const job = await gateway.createJob("chair.png");
  await page.reload();
  const chair = row(page, "chair.png");
  await button(chair, "Cancel chair.png").click();
  await untilText(chair.locator(".badge"), "cancelled");
  assert.equal(await button(chair, "Cancel chair.png").isVisible(), false);
  assert.equal((await gateway.call("GET", job.links.self)).status, "cancelled");

  await button(chair, "Retry chair.png").click();
  await untilText(chair.locator(".badge"), /queued|processing/);
  await gateway.report(job, "file_000", 30);
  await untilText(chair.locator(".row-percent"), "30 %");
  await gateway.fail(job, "file_000", "the mesh has holes");
  await untilText(chair.locator(".row-error"), "every file failed");

  await chair.getByRole("link").click();
  await untilText(page.locator(".file .note"), "the mesh has holes");
  await button(page, "Delete chair.png").click();
  await button(page, "Go back").click();
  assert.equal((await gateway.call("GET", job.links.self)).status, "failed");
  await button(page, "Delete chair.png").click();
  await button(page, "Delete job").click();
  await untilText(page.locator("#list-empty-title"), "No jobs yet");
  assert.deepEqual((await gateway.call("GET", "/api/v1/jobs")).jobs, []);

  // A link to what is gone says so.
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await untilText(page.locator("#view-job h1"), "There is no such job");
  faults.noneButRefusals();
});

test("a job's page has its timeline, its models and its webhooks, and an address of its own", async (t) => {
  const heard = [];
  const receiver = createServer((request, answer) => {
    heard.push(request.url);
    answer.end();
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  t.after(() => receiver.close());
  const settings = {
    WEBHOOKS__SECRETS: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    WEBHOOKS__ALLOW_HTTP: "true",
    WEBHOOKS__ALLOWED_NETWORKS: "127.0.0.0/8",
    WEBHOOKS__TICK: "20ms",
  };
  const { world, gateway, page, faults } = await browser.open(t, { settings });
  const job = await gateway.call("POST", "/api/v1/jobs", {
    files: [{ filename: "chair.png" }, { filename: "mug.png" }],
    webhook_url: `http://127.0.0.1:${receiver.address().port}/told`,
  });
  await gateway.report(job, "file_000", 10, "meshing");
  await gateway.report(job, "file_000", 60, "painting");
  await gateway.complete(job, "file_000", { url: "/web/cube.glb", rendered_image: { url: "/web/cube.svg" } });
  await gateway.complete(job, "file_001", { url: "https://models.example/mug.glb", rendered_image: { url: "https://models.example/mug.png" } });
  await until("the webhook", () => heard.length > 0);

  // The whole past, for somebody who was sent the link after the end.
  const other = await browser.visit(world, gateway, { key: "a-key", hash: `#job=${job.job_id}` });
  const it = other.page;
  await untilText(state(it), "completed");
  await untilText(it.locator(".timeline li").last().locator(".what"), /^Completed/);
  const told = await it.locator(".timeline .what").evaluateAll((them) => them.map((it) => it.firstChild.textContent));
  for (const entry of ["Created", "Work began", "chair.png started", "chair.png finished", "mug.png finished", "Completed"]) {
    assert.ok(told.includes(entry), `${entry} is missing in ${told}`);
  }
  assert.ok(!told.includes("chair.png 60 %"));
  await it.getByLabel("Every step").check();
  await untilText(it.locator(".timeline li[data-state=step] .what").first(), /^chair\.png 60 %/);
  const times = await it.locator(".timeline time").evaluateAll((them) => them.map((it) => it.dateTime));
  assert.deepEqual(times, [...times].sort());

  const [download] = await Promise.all([it.waitForEvent("download"), it.getByRole("link", { name: "Download file_000.glb" }).click()]);
  assert.equal(download.suggestedFilename(), "file_000.glb");
  await until("the preview", () => it.getByRole("img", { name: "Preview of file_000.glb" }).evaluate((it) => it.naturalWidth > 0));
  // Of another host nothing is loaded; there is a link.
  assert.equal(await it.getByRole("img", { name: "Preview of file_001.glb" }).count(), 0);
  assert.equal(await it.getByRole("link", { name: "Open the preview" }).last().getAttribute("href"), "https://models.example/mug.png");
  await untilText(it.locator(".webhooks .badge"), "delivered");
  other.faults.none();

  // The list, a job, and back: the browser's own buttons do it.
  await page.reload();
  await row(page, "chair.png and 1 more").getByRole("link").click();
  await untilText(state(page), "completed");
  assert.match(await page.title(), /^chair\.png and 1 more/);
  await page.goBack();
  await until("the list", () => page.locator("#view-jobs").isVisible());
  await page.goForward();
  await untilText(state(page), "completed");
  faults.none();
});
