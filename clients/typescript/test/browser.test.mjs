// The client in Chromium, on a page of another origin.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";

import { KEY, launchChromium, start } from "./world.mjs";

/** Serves an empty page, and the client's modules below /dist. */
async function origin(t) {
  const server = createServer((request, answer) => {
    const isModule = /^\/dist\/[a-z-]+\.js$/.test(request.url);
    answer.setHeader("Content-Type", isModule ? "text/javascript" : "text/html");
    const page = "<!doctype html><title>A page</title><link rel=icon href=data:,>";
    answer.end(isModule ? readFileSync(new URL(`..${request.url}`, import.meta.url)) : page);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

test("a page creates jobs, follows one by key and one by ticket", async (t) => {
  const site = await origin(t);
  const { gateway } = await start(t, { CORS__ORIGINS: site });
  const browser = await launchChromium();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(site);
  const following = page.evaluate(
    async ([url, key]) => {
      const { Gateway, listen } = await import("/dist/index.js");
      const client = new Gateway(url, key);
      const [one, other] = await Promise.all([client.createJob(["a.png"]), client.createJob(["b.png"])]);
      globalThis.jobs = [one, other];
      const listened = [];
      const ended = new Promise((resolve) => listen(url + other.links.stream, (it) => listened.push(it.name), resolve));
      const followed = [];
      for await (const event of client.follow(one.job_id)) followed.push(event.name);
      await ended;
      const refused = await client.job("nonsense").catch((it) => it.code);
      return { followed, listened, refused };
    },
    [gateway.url, KEY],
  );
  const jobs = await page.waitForFunction(() => globalThis.jobs).then((it) => it.jsonValue());
  for (const job of jobs) {
    await gateway.report(job, "file_000", 50);
    await gateway.complete(job, "file_000");
  }
  const { followed, listened, refused } = await following;
  assert.equal(followed.at(-1), "task_completed");
  assert.equal(listened.at(-1), "task_completed");
  assert.equal(refused, "INVALID_JOB_ID");
});
