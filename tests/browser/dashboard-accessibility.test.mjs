// Accessibility of the dashboard: keyboard, both themes, narrow and wide screens, screen readers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, jobRow, jobStatus, seriousViolations, waitForText, waitUntil } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

/** Creates a job in each state that looks different. Returns the URL fragments of all views. */
async function createSampleJobs(gateway) {
  const completed = await gateway.createJob("done.png");
  await gateway.complete(completed, "file_000", { url: "/web/cube.glb", rendered_image: { url: "/web/cube.svg" } });
  const partial = await gateway.createJob("a-very-long-name-of-a-picture-that-somebody-took-with-a-telephone-in-summer.png", "broken.png");
  await gateway.complete(partial, "file_000");
  await gateway.fail(partial, "file_001", `no_object_in_the_picture_${"x".repeat(120)}`);
  const cancelled = await gateway.createJob("cancelled.png");
  await gateway.call("POST", cancelled.links.cancel);
  await gateway.createJob("queued.png");
  const processing = await gateway.createJob(...Array.from({ length: 5 }, (_, i) => `busy-${i}.png`));
  await gateway.report(processing, "file_000", 30, "meshing");
  await gateway.report(processing, "file_001", 70, "painting");
  return { list: "#", processing: `#job=${processing.job_id}`, partial: `#job=${partial.job_id}`, completed: `#job=${completed.job_id}`, operator: "#operator", missing: "#job=7c9e6679-7425-40de-944b-e07fc1f90ae7" };
}

const VIEW_READY = {
  list: (page) => waitForText(jobRow(page, "busy-0.png and 4 more").locator(".segment-percent").nth(1), "70 %"),
  processing: (page) => waitForText(page.locator("[data-file=file_001] .file-percent"), "70 %"),
  partial: (page) => waitForText(jobStatus(page), "partly completed"),
  completed: (page) => page.getByRole("img", { name: /^Preview/ }).waitFor(),
  operator: (page) => page.locator(".panel .status-line").first().waitFor(),
  missing: (page) => waitForText(page.locator("#view-job h1"), "Job not found"),
};

async function openView(page, views, name) {
  await page.evaluate((hash) => (location.hash = hash), views[name]);
  await VIEW_READY[name](page);
}

for (const colorScheme of ["light", "dark"]) {
  test(`no view has a serious accessibility violation in the ${colorScheme} theme`, async (t) => {
    const { gateway, page, pageErrors } = await browser.open(t, { colorScheme, reducedMotion: "reduce" });
    const views = await createSampleJobs(gateway);
    await page.reload();
    for (const name of Object.keys(VIEW_READY)) {
      await openView(page, views, name);
      assert.deepEqual(await seriousViolations(page), [], name);
    }
    await openView(page, views, "list");
    await page.getByRole("button", { name: "Delete done.png" }).click();
    assert.deepEqual(await seriousViolations(page), [], "the dialog");
    await page.keyboard.press("Escape");
    await page.locator("#key-box summary").click();
    assert.deepEqual(await seriousViolations(page), [], "the key");
    pageErrors.assertOnlyFailedLoads();
  });
}

for (const width of [360, 1600]) {
  test(`no view is wider than a screen of ${width} px`, async (t) => {
    const { gateway, page, pageErrors } = await browser.open(t, { viewport: { width, height: 800 } });
    const views = await createSampleJobs(gateway);
    await page.reload();
    for (const name of Object.keys(VIEW_READY)) {
      await openView(page, views, name);
      const widest = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(widest <= width, `${name} is ${widest} px wide`);
    }
    await page.locator("#key-box summary").click();
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width, "the key");
    pageErrors.assertOnlyFailedLoads();
  });
}

test("the theme follows the system until another is chosen, and the choice is stored", async (t) => {
  const { page, pageErrors } = await browser.open(t, { colorScheme: "light" });
  const isDark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).every((channel) => Number(channel) < 60));
  const theme = page.getByRole("button", { name: /^Theme/ });
  assert.equal(await theme.textContent(), "Theme: auto");
  assert.equal(await isDark(), false);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await isDark(), true);
  await theme.click();
  assert.equal(await theme.textContent(), "Theme: light");
  assert.equal(await isDark(), false);
  await theme.click();
  await page.emulateMedia({ colorScheme: "light" });
  await page.reload();
  assert.equal(await theme.textContent(), "Theme: dark");
  assert.equal(await isDark(), true);
  // The API page has the same theme.
  await page.getByRole("link", { name: "API" }).click();
  await page.locator("#operations section").first().waitFor();
  assert.equal(await isDark(), true);
  pageErrors.assertNone();
});

test("every action works with the keyboard alone", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  await gateway.createJob("chair.png");
  const failed = await gateway.createJob("mug.png");
  await gateway.fail(failed, "file_000", "no object");
  await page.reload();
  await jobRow(page, "mug.png").waitFor();
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement;
      return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent.trim() ?? element.textContent.trim();
    });
  /** Presses Tab until the element `name` has the focus. Every focused element must have a visible outline. */
  const tabTo = async (name) => {
    for (let i = 0; i < 60; i++) {
      await press("Tab");
      const outline = await page.evaluate(() => {
        const element = document.activeElement;
        return [element, element.closest("label")].some((node) => node && getComputedStyle(node).outlineStyle !== "none");
      });
      assert.ok(outline || (await page.evaluate(() => document.activeElement === document.body)), `${await focused()} does not show the focus`);
      if ((await focused()) === name) return;
    }
    assert.fail(`no Tab leads to ${name}`);
  };

  await press("Tab");
  assert.equal(await focused(), "Skip to content");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await tabTo("chair.png");
  await tabTo("Cancel chair.png");
  await press("Enter");
  await waitForText(jobRow(page, "chair.png").locator(".badge"), "cancelled");
  await page.locator("#skip-link").focus();
  await tabTo("Retry mug.png");
  await press("Space");
  await waitForText(jobRow(page, "mug.png").locator(".badge"), "queued");

  await page.locator("#skip-link").focus();
  await tabTo("mug.png");
  await press("Enter");
  await waitForText(jobStatus(page), "queued");
  // The heading has the focus, so that screen readers announce the new view.
  assert.equal(await focused(), "mug.png");
  await tabTo("Delete mug.png");
  await press("Enter");
  assert.equal(await focused(), "Go back");
  await press("Tab", "Tab", "Tab");
  // The focus stays in the dialog or moves to the browser, never to the page behind it.
  assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null));
  await press("Escape");
  await waitUntil("the dialog to close", async () => (await page.locator("[aria-disabled=true]").count()) === 0);
  assert.equal(await focused(), "Delete mug.png");
  await press("Enter", "Tab", "Enter");
  await waitUntil("the list", () => page.locator("#view-jobs").isVisible());
  await waitUntil("the job to disappear", async () => (await page.locator(".row").count()) === 1);

  await page.locator("#skip-link").focus();
  await tabTo("Operator");
  await press("Enter");
  await waitUntil("the operator view", () => page.locator("#view-operator h1").isVisible());
  await tabTo("Dry run");
  await press("Enter");
  await waitUntil("the report", async () => (await page.locator("#cleanup-report table").count()) === 1);
  pageErrors.assertOnlyFailedLoads();
});

test("screen readers announce each change of state once, and no progress", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  const job = await gateway.createJob("chair.png", "mug.png");
  await page.evaluate((id) => (location.hash = `job=${id}`), job.job_id);
  await waitForText(jobStatus(page), "queued");
  const id = job.job_id.slice(0, 8);
  await page.evaluate(() => {
    globalThis.announcements = [];
    const region = document.getElementById("status");
    new MutationObserver(() => announcements.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
  });
  for (const percent of [10, 20, 30, 40, 50]) await gateway.report(job, "file_000", percent, `step ${percent}`);
  await waitForText(page.locator("[data-file=file_000] .file-percent"), "50 %");
  await gateway.complete(job, "file_000");
  await gateway.fail(job, "file_001", "no object");
  await waitForText(jobStatus(page), "partly completed");
  await waitUntil("the last announcement", () => page.evaluate((text) => announcements.at(-1) === text, `Job ${id}: partly completed, 2 of 2 files finished.`));
  // "queued" is announced only if the first event of the stream arrives after the job was opened.
  const recorded = await page.evaluate(() => announcements);
  const announcements = recorded[0]?.includes(": queued,") ? recorded.slice(1) : recorded;
  // Simultaneous changes are announced once. A status change or a finished file is announced, a percentage is not.
  assert.equal(announcements[0], `Job ${id}: processing, 0 of 2 files finished.`);
  assert.ok(announcements.length <= 4, announcements.join());
  pageErrors.assertNone();
});
