// The API page at `/docs`: all operations, from this service alone, for eyes and keyboards.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { launchChromium, TIMEOUT_MS, World } from "./servers.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** The page at `hash`, the list of what it did wrong, and of the hosts it asked. */
async function open(t, { hash = "", ...options } = {}) {
  const world = new World(t);
  const gateway = await world.gateway(await world.redis());
  const context = await browser.newContext(options);
  world.onTeardown(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const pageErrors = [];
  const hosts = new Set();
  page.on("console", (message) => message.type() === "error" && pageErrors.push(message.text()));
  page.on("pageerror", (error) => pageErrors.push(String(error)));
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  await page.exposeFunction("reportViolation", (text) => pageErrors.push(text));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => reportViolation(event.violatedDirective));
  });
  await page.goto(`${gateway.url}/docs${hash}`);
  await page.locator(".operation").first().waitFor();
  return { gateway, page, pageErrors, hosts };
}

test("every operation opens, and nothing comes from elsewhere", async (t) => {
  const { gateway, page, pageErrors, hosts } = await open(t);
  const { paths } = await fetch(`${gateway.url}/openapi.json`).then((response) => response.json());
  const count = Object.values(paths).reduce((sum, item) => sum + Object.keys(item).length, 0);
  assert.equal(await page.locator(".operation").count(), count);
  for (let i = 0; i < 6; i++) {
    // Schemas are made as they open, and hold further ones.
    await page.evaluate(() => document.querySelectorAll("details").forEach((element) => (element.open = true)));
  }
  const text = await page.locator("main").innerText();
  for (const part of ["Create a job", "Idempotency-Key", "INVALID_TRANSITION", "Last-Event-ID", "rendered_image"]) {
    assert.ok(text.includes(part), part);
  }
  assert.ok(!text.includes("undefined"), text);
  assert.deepEqual(pageErrors, []);
  assert.deepEqual([...hosts], [gateway.address]);
});

test("the commands that it shows work", async (t) => {
  const { gateway, page } = await open(t, { hash: "#jobs_create" });
  const command = await page.locator("#jobs_create pre").first().innerText();
  const env = { ...process.env, KEY: "a-key" };
  const created = JSON.parse(execFileSync("sh", ["-c", `${command} -s`], { env }));
  assert.equal(created.files[0].filename, "chair.png");
  await page.goto(`${gateway.url}/docs#jobs_list`);
  const list = await page.locator("#jobs_list pre").first().innerText();
  const listed = JSON.parse(execFileSync("sh", ["-c", `${list} -s`], { env }));
  assert.deepEqual(listed.jobs.map((job) => job.job_id), [created.job_id]);
});

test("operations are found by words and by keyboard", async (t) => {
  const { page, pageErrors } = await open(t);
  await page.getByLabel("Find").fill("post worker progress");
  const visible = page.locator(".operation:visible");
  assert.deepEqual(await visible.locator(".operation-summary").allInnerTexts(), [
    "Report a file's progress",
    "Report many files' progress",
  ]);
  assert.equal(await page.locator("#nav a:visible").count(), 2);
  assert.equal(await page.getByRole("status").innerText(), "2 operations");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.closest("details")?.open);
  assert.ok(new URL(page.url()).hash.startsWith("#progress_"));
  assert.deepEqual(pageErrors, []);
});

for (const [width, colorScheme] of [[360, "dark"], [1600, "light"]]) {
  test(`nothing is wider than ${width} pixels`, async (t) => {
    const { page } = await open(t, { hash: "#jobs_create", viewport: { width, height: 900 }, colorScheme });
    await page.evaluate(() => document.querySelectorAll("details").forEach((element) => (element.open = true)));
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/docs-${width}.png` });
  });
}
