// The API page at `/docs`: content, network access, keyboard and layout.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { launchChromium, TIMEOUT_MS, World } from "./servers.mjs";

let browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** Opens the page at `hash`. Returns it with its errors and the hosts that it requested. */
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

test("every operation opens, and nothing is loaded from another host", async (t) => {
  const { gateway, page, pageErrors, hosts } = await open(t);
  const { paths } = await fetch(`${gateway.url}/openapi.json`).then((response) => response.json());
  const count = Object.values(paths).reduce((sum, item) => sum + Object.keys(item).length, 0);
  assert.equal(await page.locator(".operation").count(), count);
  for (let i = 0; i < 6; i++) {
    // Schemas are rendered when they open, and contain further ones.
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

test("the curl commands on the page work", async (t) => {
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

test("operations can be found by search words and by keyboard", async (t) => {
  const { page, pageErrors } = await open(t);
  await page.getByLabel("Search").fill("post worker progress");
  const visible = page.locator(".operation:visible");
  assert.deepEqual(await visible.locator(".operation-summary").allInnerTexts(), [
    "Report a file's progress",
    "Report the progress of many files",
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
  test(`the page is not wider than ${width} pixels`, async (t) => {
    const { page } = await open(t, { hash: "#jobs_create", viewport: { width, height: 900 }, colorScheme });
    await page.evaluate(() => document.querySelectorAll("details").forEach((element) => (element.open = true)));
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/docs-${width}.png` });
  });
}
