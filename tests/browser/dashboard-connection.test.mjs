// The dashboard: its connection is cut, and everybody can see that, and nothing is missed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, connection, jobRow, jobStatus, waitForText, waitUntil } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

const waitForState = (page, ...states) =>
  waitUntil(states.join(" or "), async () => states.includes(await connection(page).getAttribute("data-state")));

const fileUpdateTexts = (page) => page.locator(".timeline li[data-event=file_update] .entry-text").evaluateAll((elements) => elements.map((element) => element.firstChild.textContent));

test("the service goes and comes back: the page says so, and has all that happened meanwhile", async (t) => {
  const { world, redis, gateway, page, pageErrors } = await browser.open(t);
  const job = await gateway.createJob("chair.png");
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await gateway.report(job, "file_000", 10);
  await waitForText(page.locator(".file-percent"), "10 %");
  await waitForState(page, "live");
  assert.equal(await page.locator("#connection-text").textContent(), "Live");

  await gateway.stop();
  await waitForState(page, "reconnecting");
  await waitForText(page.locator("#connection-text"), /^Reconnecting in \d+ s$/);
  await waitForText(page.locator("#connection-announcement"), "The connection is lost. It is tried again by itself.");

  // Another process serves the worker meanwhile.
  const other = await world.gateway(redis);
  for (const percent of [20, 30, 40]) await other.report(job, "file_000", percent);
  await world.gateway(redis, { SERVER__LISTEN: gateway.address });
  await waitForState(page, "live");
  await waitForText(page.locator("#connection-announcement"), "The connection is back.");
  await waitForText(page.locator(".file-percent"), "40 %");
  await page.getByLabel("Every step").check();
  const expected = ["chair.png started", "chair.png 20 %", "chair.png 30 %", "chair.png 40 %"];
  await waitUntil("every step once", async () => JSON.stringify(await fileUpdateTexts(page)) === JSON.stringify(expected));

  await other.complete(job, "file_000");
  await waitForText(jobStatus(page), "completed");
  pageErrors.assertOnlyFailedLoads();
});

test("whoever will not wait comes back at once", async (t) => {
  const { world, redis, gateway, page, pageErrors } = await browser.open(t, { clock: true });
  const job = await gateway.createJob("chair.png");
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await waitForState(page, "live");
  // Its timers stand still, so the page does not come back by itself.
  await page.clock.pauseAt(Date.now() + 5000);
  await gateway.stop();
  await waitForState(page, "reconnecting");
  await world.gateway(redis, { SERVER__LISTEN: gateway.address });
  assert.match(await page.locator("#connection-text").textContent(), /^Reconnecting in \d+ s$/);
  await page.getByRole("button", { name: "Now" }).click();
  await waitForState(page, "live");
  pageErrors.assertOnlyFailedLoads();
});

test("a device without a network is told so, and goes on by itself when there is one", async (t) => {
  const { gateway, context, page, pageErrors } = await browser.open(t);
  const job = await gateway.createJob("mug.png");
  await page.reload();
  await gateway.report(job, "file_000", 15);
  await waitForText(jobRow(page, "mug.png").locator(".row-percent"), "15 %");

  await context.setOffline(true);
  await waitForState(page, "offline");
  await waitForText(page.locator("#connection-announcement"), "This device is offline. What is shown may be old.");
  await gateway.report(job, "file_000", 35);
  await gateway.report(job, "file_000", 55);
  assert.equal(await jobRow(page, "mug.png").locator(".row-percent").textContent(), "15 %");

  await context.setOffline(false);
  await waitForState(page, "live");
  await waitForText(jobRow(page, "mug.png").locator(".row-percent"), "55 %");
  await jobRow(page, "mug.png").getByRole("link").click();
  await page.getByLabel("Every step").check();
  const expected = ["mug.png started", "mug.png 35 %", "mug.png 55 %"];
  await waitUntil("every step once", async () => JSON.stringify(await fileUpdateTexts(page)) === JSON.stringify(expected));
  pageErrors.assertOnlyFailedLoads();
});

test("a job that is deleted elsewhere ends on the page, and the others are still followed", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  const gone = await gateway.createJob("gone.png");
  const kept = await gateway.createJob("kept.png");
  await page.reload();
  await gateway.report(gone, "file_000", 5);
  await waitForText(jobRow(page, "gone.png").locator(".row-percent"), "5 %");
  await gateway.remove(gone);
  await waitForText(jobRow(page, "gone.png").locator(".badge"), /cancelled|expired/);
  await gateway.report(kept, "file_000", 25);
  await waitForText(jobRow(page, "kept.png").locator(".row-percent"), "25 %");
  pageErrors.assertOnlyFailedLoads();
});
