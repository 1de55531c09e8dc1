// The dashboard at `/`, used as a visitor does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launchChromium, PATIENCE_MS, until, World } from "./servers.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** The dashboard, and the list of what it did wrong so far. Its timers wait until the test moves its clock. */
async function open(t) {
  const world = new World(t);
  const gateway = await world.gateway(await world.redis());
  const context = await browser.newContext();
  world.endWith(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const faults = [];
  page.on("console", (it) => it.type() === "error" && faults.push(it.text()));
  page.on("pageerror", (it) => faults.push(String(it)));
  await page.exposeFunction("noteViolation", (text) => faults.push(text));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (it) => {
      noteViolation(`the policy forbids ${it.violatedDirective}: ${it.blockedURI}`);
    });
  });
  await page.clock.install();
  await page.goto(gateway.url);
  return { gateway, page, faults };
}

const badge = (page) => page.locator(".job-state .badge").getAttribute("data-state");

test("“Try it” shows a whole job", async (t) => {
  const { page, faults } = await open(t);
  await page.getByRole("button", { name: "Try it" }).click();
  await page.locator(".job-state .badge").waitFor();
  await until("the end of the job", async () => {
    await page.clock.runFor(200);
    return (await badge(page)) === "completed";
  });
  await until("the models", async () => {
    await page.clock.runFor(200);
    return (await page.locator(".files .result a").count()) === 4;
  });
  assert.equal(await page.locator(".percent").textContent(), "100 %");
  assert.equal(await page.locator(".connection").textContent(), "ended");
  const events = await page.locator(".events li").evaluateAll((them) => them.map((it) => it.dataset.event));
  assert.equal(events.at(0), "task_completed");
  assert.equal(events.at(-1), "task_queued");
  // Seven steps and a result for each of four files.
  assert.equal(events.filter((it) => it === "file_update").length, 32);
  assert.equal(await page.locator("#jobs li").count(), 1);
  assert.equal(await page.locator("#notice").isVisible(), false);
  assert.deepEqual(faults, []);
});

test("a job is cancelled from the page", async (t) => {
  const { gateway, page, faults } = await open(t);
  const job = await gateway.createJob("chair.png");
  await page.getByLabel("API key").fill("a-key");
  await page.getByRole("button", { name: "Use" }).click();
  await page.getByRole("link", { name: "chair.png" }).click();
  await gateway.report(job, "file_000", 40, "meshing");
  await until("the report", async () => {
    await page.clock.runFor(50);
    return (await badge(page)) === "processing";
  });
  await page.getByRole("button", { name: "Cancel job" }).click();
  await until("the cancellation", async () => {
    await page.clock.runFor(50);
    return (await badge(page)) === "cancelled";
  });
  assert.equal(await page.getByRole("button", { name: "Cancel job" }).isVisible(), false);
  assert.equal((await gateway.call("GET", job.links.self)).status, "cancelled");
  assert.deepEqual(faults, []);
});
