// The client in Chromium, on a page from another origin.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";

import { KEY, launchChromium, startGateway } from "./harness.mjs";

/** Serves an empty page, and the client's modules under /dist. */
async function servePage(t) {
  const server = createServer((request, response) => {
    const isModule = /^\/dist\/[a-z-]+\.js$/.test(request.url);
    response.setHeader("Content-Type", isModule ? "text/javascript" : "text/html");
    const page = "<!doctype html><title>A page</title><link rel=icon href=data:,>";
    response.end(isModule ? readFileSync(new URL(`..${request.url}`, import.meta.url)) : page);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

test("a page creates jobs and follows them with a key and with a ticket", async (t) => {
  const site = await servePage(t);
  const { gateway } = await startGateway(t, { CORS__ORIGINS: site });
  const browser = await launchChromium();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(site);
  const following = page.evaluate(
    async ([url, key]) => {
      const { GatewayClient, listenWithEventSource } = await import("/dist/index.js");
      const client = new GatewayClient(url, key);
      const [one, other] = await Promise.all([client.createJob(["a.png"]), client.createJob(["b.png"])]);
      globalThis.jobs = [one, other];
      const listened = [];
      const record = (event) => listened.push(event.name);
      const ended = new Promise((resolve) => listenWithEventSource(url + other.links.stream, record, resolve));
      const followed = [];
      for await (const event of client.follow(one.job_id)) followed.push(event.name);
      await ended;
      const refused = await client.job("nonsense").catch((error) => error.code);
      return { followed, listened, refused };
    },
    [gateway.url, KEY],
  );
  const jobs = await page.waitForFunction(() => globalThis.jobs).then((handle) => handle.jsonValue());
  for (const job of jobs) {
    await gateway.report(job, "file_000", 50);
    await gateway.complete(job, "file_000");
  }
  const { followed, listened, refused } = await following;
  assert.equal(followed.at(-1), "task_completed");
  assert.equal(listened.at(-1), "task_completed");
  assert.equal(refused, "INVALID_JOB_ID");
});
