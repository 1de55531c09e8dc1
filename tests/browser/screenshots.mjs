// Takes the screenshots of the dashboard in docs/, from a running service with a primary and a replica.

import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { freePort, launchChromium, redisCli, TIMEOUT_MS, waitUntil, World } from "./servers.mjs";

const VIEWPORT = { width: 1280, height: 780 };
const folder = process.argv[2];
if (!folder) throw new Error("usage: node screenshots.mjs FOLDER");

/** Stopped after the screenshots are taken. */
const teardowns = [];
const world = new World({ after: (teardown) => teardowns.push(teardown) });

/** Starts a primary with a replica. Returns the URL of the primary once the replica is in sync. */
async function startRedisPair() {
  const ports = [await freePort(), await freePort()];
  for (const [index, port] of ports.entries()) {
    const dir = await mkdtemp(join(tmpdir(), "i2m-"));
    world.onTeardown(() => rm(dir, { recursive: true }));
    const follows = index === 0 ? [] : ["--replicaof", "127.0.0.1", String(ports[0])];
    const options = ["--port", String(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes"];
    const limits = ["--maxmemory", "64mb", "--repl-diskless-sync-delay", "0", "--slowlog-log-slower-than", "400"];
    world.run("redis-server", [...options, ...limits, ...follows], { stdio: "ignore" });
  }
  await waitUntil("the replica", () => redisCli(ports[0], "info", "replication").includes("state=online"));
  return `redis://127.0.0.1:${ports[0]}`;
}

/** API calls with one key. */
class ApiClient {
  constructor(gateway, key) {
    Object.assign(this, { gateway, key });
  }

  async call(method, path, body) {
    const headers = { Authorization: `Bearer ${this.key}`, "Content-Type": "application/json" };
    const response = await fetch(`${this.gateway.url}${path}`, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? undefined : response.json();
  }

  create(...names) {
    const files = names.map((filename, index) => ({ filename, size: 48_213 + 9_731 * index, content_type: "image/jpeg" }));
    return this.call("POST", "/api/v1/jobs", { files });
  }

  report(job, index, progress, message) {
    return this.call("POST", `${filePath(job, index)}/progress`, { progress, message });
  }

  complete(job, index) {
    const filename = job.files[index].filename.replace(/\.\w+$/, ".glb");
    const result = { filename, size: 1464, mime_type: "model/gltf-binary", url: "/web/cube.glb", rendered_image: { url: "/web/cube.svg" } };
    return this.call("PUT", `${filePath(job, index)}/result`, { status: "completed", result });
  }

  fail(job, index, error) {
    return this.call("PUT", `${filePath(job, index)}/result`, { status: "failed", error });
  }
}

const filePath = (job, index) => `${job.links.self}/files/${job.files[index].file_id}`;

function createKey(redis, name, ...roles) {
  const env = { ...process.env, I2M__REDIS__URL: redis, I2M__AUTH__MODE: "keys" };
  const args = ["keys", "create", name, ...roles.flatMap((role) => ["--role", role])];
  return execFileSync(process.env.I2M_BINARY, args, { env, encoding: "utf8" }).match(/i2m_\S+/)[0];
}

/** Creates jobs in every state, for several clients. */
async function createSampleJobs(gateway, redis) {
  const keys = ["upload-api", "mobile-app", "batch-import"].map((name) => createKey(redis, name, "client", "worker"));
  const shop = new ApiClient(gateway, keys[0]);
  const worker = new ApiClient(gateway, createKey(redis, "workers", "worker"));
  const admin = createKey(redis, "root", "admin");
  for (const [key, jobs, listCalls] of [[keys[1], 9, 40], [keys[2], 4, 12]]) {
    const client = new ApiClient(gateway, key);
    for (let i = 0; i < jobs; i++) await client.create(`${i}.jpg`, `${i}b.jpg`);
    for (let i = 0; i < listCalls; i++) await client.call("GET", "/api/v1/jobs");
  }
  const vase = await shop.create("vase-front.jpg", "vase-left.jpg", "vase-back.jpg");
  for (const index of [0, 1, 2]) await worker.complete(vase, index);
  const boots = await shop.create("boots.jpg", "laces.jpg");
  await worker.complete(boots, 0);
  await worker.fail(boots, 1, "no object stands out from the background");
  const stool = await shop.create("stool.jpg");
  await shop.call("POST", `${stool.links.self}/cancel`);
  const teapot = await shop.create("teapot.jpg", "lid.jpg");
  const chair = await shop.create("armchair.jpg", "armchair-side.jpg", "cushion.jpg", "footrest.jpg");
  await worker.complete(teapot, 0);
  await worker.report(teapot, 1, 64, "Smoothing the mesh");
  await worker.report(chair, 0, 10, "Cutting out the object");
  return { shop, worker, admin, chair };
}

async function open(browser, gateway, key, options) {
  const context = await browser.newContext({ viewport: VIEWPORT, reducedMotion: "reduce", locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.addInitScript((key) => sessionStorage.setItem("i2m.key", key), key);
  await page.goto(gateway.url);
  return page;
}

/** Takes a screenshot after all CSS transitions have finished. */
async function saveScreenshot(page, name, options) {
  await page.evaluate(() => Promise.all(document.getAnimations().filter((animation) => animation instanceof CSSTransition).map((animation) => animation.finished)));
  await page.screenshot({ path: join(folder, name), ...options });
  console.log(`wrote ${join(folder, name)}`);
}

async function takeScreenshots() {
  const redis = await startRedisPair();
  const gateway = await world.gateway(redis, { AUTH__MODE: "keys", CELERY__ENABLED: "true" });
  const { shop, worker, admin, chair } = await createSampleJobs(gateway, redis);
  const browser = await launchChromium();
  world.onTeardown(() => browser.close());

  const list = await open(browser, gateway, shop.key, { colorScheme: "light" });
  await list.locator(".row").nth(4).waitFor();
  const pictures = ["chair.png", "lamp.png", "mug.png"].map((name) => fileURLToPath(new URL(`../../docs/demo-pictures/${name}`, import.meta.url)));
  await list.locator("#picture-input").setInputFiles(pictures);
  // Shown live, since the page is already open.
  for (const [index, percent] of [[0, 88], [1, 52], [2, 21]]) {
    await worker.report(chair, index, percent, "Building the mesh");
    await list.locator(".segment-percent", { hasText: `${percent} %` }).waitFor();
  }
  await saveScreenshot(list, "dashboard.png");

  const operator = await open(browser, gateway, admin, { colorScheme: "dark" });
  await operator.getByRole("button", { name: "Dry run" }).click();
  await operator.locator("#cleanup-report table").waitFor();
  await operator.setViewportSize({ ...VIEWPORT, height: 2000 });
  await operator.evaluate(() => scrollTo(0, 0));
  const limits = await operator.getByRole("region", { name: "Rate limits" }).boundingBox();
  await saveScreenshot(operator, "operator.png", { clip: { x: 0, y: 0, width: VIEWPORT.width, height: limits.y + limits.height + 16 } });
}

try {
  await takeScreenshots();
} finally {
  for (const teardown of teardowns) await teardown();
}
