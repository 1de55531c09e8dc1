// The dashboard: the operator view, and access to it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { Browser, jobRow, waitForText, waitUntil } from "./dashboard.mjs";
import { World } from "./servers.mjs";

const browser = new Browser();
before(() => browser.launch());
after(() => browser.close());

const panel = (page, name) => page.getByRole("region", { name, exact: true });

/** Creates an API key with the command line, as an operator does. */
function createKey(redis, name, role) {
  const env = { ...process.env, I2M__REDIS__URL: redis, I2M__AUTH__MODE: "keys" };
  const output = execFileSync(process.env.I2M_BINARY, ["keys", "create", name, "--role", role], { env, encoding: "utf8" });
  return output.match(/i2m_\S+/)[0];
}

test("the operator view shows Redis, queues, streams, rate limits with the busiest clients, and slow queries", async (t) => {
  const { gateway, page, pageErrors } = await browser.open(t, { settings: { CELERY__ENABLED: "true" }, hash: "#operator" });
  await waitForText(panel(page, "Service and Redis").locator(".status-line .badge"), "healthy");
  await waitForText(panel(page, "Memory").locator(".figure"), /^\d+(\.\d)? MiB \(no limit\)$/);
  await waitForText(panel(page, "Replication").locator("tbody td").first(), "primary (in use)");
  assert.equal(await panel(page, "Databases").locator("tbody tr").count(), 5);
  await waitForText(panel(page, "Queues and workers").locator("tbody td").first(), "batch_processing");
  await waitForText(panel(page, "Event streams").locator(".figure"), /^0 open/);
  await panel(page, "Slow queries").waitFor();

  const created = 7;
  for (let i = 0; i < created; i++) await gateway.createJob(`${i}.png`);
  // The view refreshes by itself.
  await waitForText(panel(page, "Queues and workers").locator("tbody tr td:nth-child(2)"), String(created));
  const policy = panel(page, "Rate limits").locator(".policy", { has: page.getByRole("heading", { name: /^create_job/ }) });
  await waitForText(policy.locator(".counts"), `${created} requests`);
  // Neither the key nor its full hash is shown.
  await waitForText(policy.locator(".callers .name"), /^[0-9a-f]{8}…$/);
  assert.ok(!(await page.content()).includes("a-key"));
  // Loading the report fails with 404 before the first cleanup.
  pageErrors.assertOnlyFailedLoads();
});

test("the operator view shows each shard of a cluster", async (t) => {
  const world = new World(t);
  const settings = { REDIS__MODE: "cluster", REDIS__NODES: (await world.cluster()).join() };
  const gateway = await world.gateway(undefined, settings);
  const { page, pageErrors } = await browser.visit(world, gateway, { key: "a-key", hash: "#operator" });
  const overview = panel(page, "Service and Redis");
  await waitForText(overview.locator(".status-line .badge"), "healthy");
  await waitForText(overview.locator("dl div", { hasText: "Servers" }).locator("dd"), "2");
  await waitForText(panel(page, "Replication").locator(".facts dd"), "cluster");
  for (const name of ["Memory", "Replication", "Databases"]) {
    const shards = await panel(page, name).locator("tbody td:first-child").allTextContents();
    assert.deepEqual(shards, ["shard 0", "shard 1"], name);
  }
  // The other views work as with a single server.
  await page.getByRole("link", { name: "Jobs" }).click();
  const job = await gateway.createJob("chair.png");
  await page.reload();
  await gateway.report(job, "file_000", 30);
  await waitForText(jobRow(page, "chair.png").locator(".row-percent"), "30 %");
  pageErrors.assertOnlyFailedLoads();
});

test("a cleanup has a dry run and needs a confirmation", async (t) => {
  const { page, pageErrors } = await browser.open(t, { hash: "#operator" });
  const cleanup = panel(page, "Cleanup");
  await cleanup.getByRole("button", { name: "Dry run" }).click();
  await waitForText(cleanup.locator(".status-line"), /^finishedDry run of .*: \d+ keys scanned/);
  assert.match(await cleanup.locator("thead").textContent(), /Would be removed/);
  await waitForText(page.locator("#status"), /^Dry run finished: /);

  await cleanup.getByRole("button", { name: "Clean up now" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Go back" }).click();
  assert.match(await cleanup.locator(".status-line").textContent(), /^finishedDry run/);
  await cleanup.getByRole("button", { name: "Clean up now" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Clean up" }).click();
  await waitForText(cleanup.locator(".status-line"), /^finishedCleanup of .*: \d+ keys scanned/);
  // Loading the report fails with 404 before the first cleanup.
  pageErrors.assertOnlyFailedLoads();
});

test("the operator view needs the admin role, and the job list needs a key", async (t) => {
  const { world, redis, gateway, page, pageErrors } = await browser.open(t, { settings: { AUTH__MODE: "keys" }, key: "" });
  await waitForText(page.locator("#list-empty-text"), "Enter an API key above to see your jobs.");
  assert.equal(await page.getByLabel("API key").isVisible(), true);
  pageErrors.assertOnlyFailedLoads();

  const client = createKey(redis, "shop", "client");
  await page.getByLabel("API key").fill(client);
  await page.getByRole("button", { name: "Use this key" }).click();
  await waitForText(page.locator("#key-name"), "Key shop");
  await waitForText(page.locator("#list-empty-title"), "No jobs yet");
  const operator = page.getByRole("link", { name: "Operator" });
  assert.equal(await operator.isVisible(), false);
  // “Try it” needs the worker role.
  assert.equal(await page.getByRole("button", { name: "Try it" }).isVisible(), false);
  // The URL fragment does not open the view either.
  await page.evaluate(() => (location.hash = "operator"));
  await waitUntil("the list", () => page.locator("#view-jobs").isVisible());

  const admin = createKey(redis, "root", "admin");
  const other = await browser.visit(world, gateway, { key: admin });
  // An admin key without the client role starts in the operator view.
  await waitForText(panel(other.page, "Service and Redis").locator(".status-line .badge"), "healthy");
  other.pageErrors.assertOnlyFailedLoads();
  pageErrors.assertOnlyFailedLoads();
});
