// The dashboard: a job is created of pictures, and watched to its end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, state, until, untilText } from "./dashboard.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

/** Lets files fall on `selector`, or pastes them. */
function give(page, kind, selector, files) {
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

test("dropped and pasted pictures become a job, which is watched to its end", async (t) => {
  const { gateway, page, faults } = await browser.open(t);
  await give(page, "drop", "#drop", [picture("chair.png", 321)]);
  await give(page, "paste", "body", [picture("mug.jpg", 123, "image/jpeg")]);
  // Beside the zone, too: the browser would leave the page for what falls there.
  await give(page, "drop", "#list-title", [picture("lamp.webp", 9, "image/webp")]);
  assert.deepEqual(await page.locator("#chosen .name").allTextContents(), ["chair.png", "mug.jpg", "lamp.webp"]);
  await page.getByRole("button", { name: "Remove lamp.webp" }).click();

  await page.getByRole("button", { name: "Create job of 2 pictures" }).click();
  await untilText(state(page), "queued");
  const [job] = (await gateway.call("GET", "/api/v1/jobs")).jobs;
  assert.equal(new URL(page.url()).hash, `#job=${job.job_id}`);
  const { files } = await gateway.call("GET", `/api/v1/jobs/${job.job_id}`);
  assert.deepEqual(
    files.map((it) => [it.filename, it.size, it.content_type]),
    [["chair.png", 321, "image/png"], ["mug.jpg", 123, "image/jpeg"]],
  );

  const self = { links: { self: `/api/v1/jobs/${job.job_id}` } };
  await gateway.report(self, "file_000", 40, "meshing");
  await untilText(page.locator("[data-file=file_000] .file-percent"), "40 %");
  await untilText(page.locator("[data-file=file_000] .note"), "meshing");
  await untilText(page.locator(".percent"), "20 %");
  await gateway.complete(self, "file_000");
  await gateway.complete(self, "file_001");
  await untilText(state(page), "completed");
  await untilText(page.locator(".percent"), "100 %");
  await untilText(page.locator("#connection-text"), "Up to date");
  faults.none();
});

test("“Try it” shows a whole job, with models and previews", async (t) => {
  const { page, faults } = await browser.open(t, { clock: true });
  await page.getByRole("button", { name: "Try it" }).click();
  await until("the end of the job", async () => {
    await page.clock.runFor(200);
    return (await state(page).count()) > 0 && (await state(page).textContent()) === "completed";
  });
  await until("the models", async () => {
    await page.clock.runFor(200);
    return (await page.getByRole("link", { name: /^Download .*\.glb/ }).count()) === 4;
  });
  await until("the previews", () =>
    page.locator(".pictures a img").evaluateAll((them) => them.length === 4 && them.every((it) => it.naturalWidth > 0)),
  );
  assert.equal(await page.locator("#notice").isVisible(), false);
  faults.none();
});

test("what cannot be a job is refused beside the pictures, in the words of the service", async (t) => {
  const settings = { JOBS__MAX_FILES: "2", JOBS__MAX_FILE_SIZE: "1KiB" };
  const { gateway, page, faults } = await browser.open(t, { settings });
  const error = page.locator("#new-error");
  const create = page.locator("#create");

  await give(page, "drop", "#drop", [picture("notes.txt", 10, "text/plain"), picture("chair.png")]);
  await untilText(error, "Left out, since only pictures can be made models: notes.txt (text/plain).");
  assert.deepEqual(await page.locator("#chosen .name").allTextContents(), ["chair.png"]);

  await give(page, "drop", "#drop", [picture("huge.png", 5000)]);
  await create.click();
  await untilText(error, /^huge\.png: size: more than 1\.0 KiB$/);
  await page.getByRole("button", { name: "Remove huge.png" }).click();
  assert.equal(await error.isVisible(), false);

  await give(page, "drop", "#drop", [picture("mug.png"), picture("lamp.png")]);
  await create.click();
  await untilText(error, /3.*2|2.*3/);
  // Nothing that was chosen is lost by it.
  assert.equal(await page.locator("#chosen li").count(), 3);
  assert.equal(await error.getAttribute("role"), "alert");
  assert.deepEqual((await gateway.call("GET", "/api/v1/jobs")).jobs, []);
  faults.noneButRefusals();
});
