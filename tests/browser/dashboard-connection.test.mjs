// The dashboard: a lost connection is shown, and no event is missed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, connection, jobRow, jobStatus, waitForText, waitUntil } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

const waitForState = (page, ...states) =>
  waitUntil(states.join(" or "), async () => states.includes(await connection(page).getAttribute("data-state")));

const fileUpdateTexts = (page) => page.locator(".timeline li[data-event=file_update] .entry-text").evaluateAll((elements) => elements.map((element) => element.firstChild.textContent));

test("the page shows a service restart and catches up on missed events", async (t) => {
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
  await waitForText(page.locator("#connection-announcement"), "Connection lost. Reconnecting automatically.");

  // Meanwhile another process receives the reports of the worker.
  const other = await world.gateway(redis);
  for (const percent of [20, 30, 40]) await other.report(job, "file_000", percent);
  await world.gateway(redis, { SERVER__LISTEN: gateway.address });
  await waitForState(page, "live");
  await waitForText(page.locator("#connection-announcement"), "Connection restored.");
  await waitForText(page.locator(".file-percent"), "40 %");
  await page.getByLabel("Show every step").check();
  const expected = ["chair.png started", "chair.png 20 %", "chair.png 30 %", "chair.png 40 %"];
  await waitUntil("every step, once", async () => JSON.stringify(await fileUpdateTexts(page)) === JSON.stringify(expected));

  await other.complete(job, "file_000");
  await waitForText(jobStatus(page), "completed");
  pageErrors.assertOnlyFailedLoads();
});

test("“Retry now” reconnects at once", async (t) => {
  const { world, redis, gateway, page, pageErrors } = await browser.open(t, { clock: true });
  const job = await gateway.createJob("chair.png");
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await waitForState(page, "live");
  // The timers of the page are paused, so it does not reconnect by itself.
  await page.clock.pauseAt(Date.now() + 5000);
  await gateway.stop();
  await waitForState(page, "reconnecting");
  await world.gateway(redis, { SERVER__LISTEN: gateway.address });
  assert.match(await page.locator("#connection-text").textContent(), /^Reconnecting in \d+ s$/);
  await page.getByRole("button", { name: "Retry now" }).click();
  await waitForState(page, "live");
  pageErrors.assertOnlyFailedLoads();
});

test("the page shows that the device is offline and reconnects when the network returns", async (t) => {
  const { gateway, context, page, pageErrors } = await browser.open(t);
  const job = await gateway.createJob("mug.png");
  await page.reload();
  await gateway.report(job, "file_000", 15);
  await waitForText(jobRow(page, "mug.png").locator(".row-percent"), "15 %");

  await context.setOffline(true);
  await waitForState(page, "offline");
  await waitForText(page.locator("#connection-announcement"), "This device is offline. The data shown may be out of date.");
  await gateway.report(job, "file_000", 35);
  await gateway.report(job, "file_000", 55);
  assert.equal(await jobRow(page, "mug.png").locator(".row-percent").textContent(), "15 %");

  await context.setOffline(false);
  await waitForState(page, "live");
  await waitForText(jobRow(page, "mug.png").locator(".row-percent"), "55 %");
  await jobRow(page, "mug.png").getByRole("link").click();
  await page.getByLabel("Show every step").check();
  const expected = ["mug.png started", "mug.png 35 %", "mug.png 55 %"];
  await waitUntil("every step, once", async () => JSON.stringify(await fileUpdateTexts(page)) === JSON.stringify(expected));
  pageErrors.assertOnlyFailedLoads();
});

test("a job deleted elsewhere ends on the page, and other jobs are still updated", async (t) => {
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
