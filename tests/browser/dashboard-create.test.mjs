// The dashboard: creating a job from pictures and watching it to its end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, jobStatus, waitForText, waitUntil } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

/** Drops files on `selector`, or pastes them there. */
function dispatchFiles(page, kind, selector, files) {
  return page.evaluate(
    ({ kind, selector, files }) => {
      const data = new DataTransfer();
      for (const { name, type, size } of files) data.items.add(new File([new Uint8Array(size)], name, { type }));
      const event =
        kind === "paste"
          ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
          : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.querySelector(selector).dispatchEvent(event);
    },
    { kind, selector, files },
  );
}

const picture = (name, size = 100, type = "image/png") => ({ name, size, type });

test("dropped and pasted pictures become a job that is shown until it ends", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t);
  await dispatchFiles(page, "drop", "#drop-zone", [picture("chair.png", 321)]);
  await dispatchFiles(page, "paste", "body", [picture("mug.jpg", 123, "image/jpeg")]);
  // Outside the drop zone, where the browser would open the file in place of the page.
  await dispatchFiles(page, "drop", "#list-title", [picture("lamp.webp", 9, "image/webp")]);
  assert.deepEqual(await page.locator("#chosen-pictures .name").allTextContents(), ["chair.png", "mug.jpg", "lamp.webp"]);
  await page.getByRole("button", { name: "Remove lamp.webp" }).click();

  await page.getByRole("button", { name: "Create job with 2 pictures" }).click();
  await waitForText(jobStatus(page), "queued");
  const [job] = (await gateway.call("GET", "/api/v1/jobs")).jobs;
  assert.equal(new URL(page.url()).hash, `#job=${job.job_id}`);
  const { files } = await gateway.call("GET", `/api/v1/jobs/${job.job_id}`);
  assert.deepEqual(
    files.map((file) => [file.filename, file.size, file.content_type]),
    [["chair.png", 321, "image/png"], ["mug.jpg", 123, "image/jpeg"]],
  );

  const self = { links: { self: `/api/v1/jobs/${job.job_id}` } };
  await gateway.report(self, "file_000", 40, "meshing");
  await waitForText(page.locator("[data-file=file_000] .file-percent"), "40 %");
  await waitForText(page.locator("[data-file=file_000] .note"), "meshing");
  await waitForText(page.locator(".percent"), "20 %");
  await gateway.complete(self, "file_000");
  await gateway.complete(self, "file_001");
  await waitForText(jobStatus(page), "completed");
  await waitForText(page.locator(".percent"), "100 %");
  await waitForText(page.locator("#connection-text"), "Up to date");
  pageErrors.assertNone();
});

test("“Try it” runs a whole job, with models and previews", async (t) => {
  const { page, pageErrors } = await browser.open(t, { clock: true });
  await page.getByRole("button", { name: "Try it" }).click();
  await waitUntil("the end of the job", async () => {
    await page.clock.runFor(200);
    return (await jobStatus(page).count()) > 0 && (await jobStatus(page).textContent()) === "completed";
  });
  await waitUntil("the models", async () => {
    await page.clock.runFor(200);
    return (await page.getByRole("link", { name: /^Download .*\.glb/ }).count()) === 4;
  });
  await waitUntil("the previews", () =>
    page.locator(".pictures a img").evaluateAll((elements) => elements.length === 4 && elements.every((image) => image.naturalWidth > 0)),
  );
  assert.equal(await page.locator("#error-notice").isVisible(), false);
  pageErrors.assertNone();
});

test("files that are rejected are listed in the form with the error of the service", async (t) => {
  const settings = { JOBS__MAX_FILES: "2", JOBS__MAX_FILE_SIZE: "1KiB" };
  const { gateway, page, pageErrors } = await browser.open(t, { settings });
  const error = page.locator("#new-job-error");
  const create = page.locator("#create-job");

  await dispatchFiles(page, "drop", "#drop-zone", [picture("notes.txt", 10, "text/plain"), picture("chair.png")]);
  await waitForText(error, "Skipped files that are not pictures: notes.txt (text/plain).");
  assert.deepEqual(await page.locator("#chosen-pictures .name").allTextContents(), ["chair.png"]);

  await dispatchFiles(page, "drop", "#drop-zone", [picture("huge.png", 5000)]);
  await create.click();
  await waitForText(error, /^huge\.png: size: more than 1\.0 KiB$/);
  await page.getByRole("button", { name: "Remove huge.png" }).click();
  assert.equal(await error.isVisible(), false);

  await dispatchFiles(page, "drop", "#drop-zone", [picture("mug.png"), picture("lamp.png")]);
  await create.click();
  await waitForText(error, /3.*2|2.*3/);
  // The error keeps the chosen pictures.
  assert.equal(await page.locator("#chosen-pictures li").count(), 3);
  assert.equal(await error.getAttribute("role"), "alert");
  assert.deepEqual((await gateway.call("GET", "/api/v1/jobs")).jobs, []);
  pageErrors.assertOnlyFailedLoads();
});
