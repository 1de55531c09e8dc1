// Servers of the tests: Redis, the gateway, a page of another origin, Chromium, and a proxy that cuts connections.

import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { createConnection, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

export const TIMEOUT_MS = 20_000;
const POLL_INTERVAL_MS = 10;

/** Polls `probe` until it returns a true value, and returns that value. `what` names it in the error. */
export async function waitUntil(what, probe) {
  const end = Date.now() + TIMEOUT_MS;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

/** The servers of one test. They are stopped when it ends, the last one first. */
export class World {
  #teardowns = [];

  constructor(test) {
    test.after(async () => {
      for (const teardown of this.#teardowns.reverse()) await teardown();
    });
  }

  onTeardown(teardown) {
    this.#teardowns.push(teardown);
  }

  /** Starts a Redis on a unix socket and returns its URL. */
  async redis() {
    const dir = await mkdtemp(join(tmpdir(), "i2m-"));
    this.onTeardown(() => rm(dir, { recursive: true }));
    const socket = join(dir, "redis.sock");
    const options = ["--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no"];
    this.run("redis-server", options, { stdio: "ignore" });
    await waitUntil("Redis", () => respondsToPing(socket));
    return `redis+unix://${socket}`;
  }

  /** Starts a cluster of two primaries with half of the slots each, and returns their addresses. */
  async cluster() {
    const ports = [await freePort(), await freePort()];
    for (const port of ports) {
      const dir = await mkdtemp(join(tmpdir(), "i2m-"));
      this.onTeardown(() => rm(dir, { recursive: true }));
      const bus = String(await freePort());
      const options = ["--bind", "127.0.0.1", "--port", String(port), "--dir", dir, "--save", "", "--appendonly", "no"];
      this.run("redis-server", [...options, "--cluster-enabled", "yes", "--cluster-port", bus], { stdio: "ignore" });
      await waitUntil("a node", () => redisCli(port, "ping").startsWith("PONG"));
    }
    const [first, second] = ports;
    redisCli(first, "cluster", "addslotsrange", "0", "8191");
    redisCli(second, "cluster", "addslotsrange", "8192", "16383");
    const bus = redisCli(first, "config", "get", "cluster-port").trim().split("\n")[1];
    redisCli(second, "cluster", "meet", "127.0.0.1", String(first), bus);
    await waitUntil("the cluster", () => ports.every((port) => redisCli(port, "cluster", "info").includes("cluster_state:ok")));
    return ports.map((port) => `127.0.0.1:${port}`);
  }

  /** Starts a gateway and waits until it is ready. `settings` maps names without `I2M__` to values. */
  async gateway(redis, settings = {}) {
    const binary = process.env.I2M_BINARY;
    if (!binary) throw new Error("I2M_BINARY is not set: it must be the path of image2model-gateway");
    const all = {
      REDIS__URL: redis,
      SERVER__LISTEN: "127.0.0.1:0",
      SERVER__DRAIN_SPREAD: "20ms",
      LOG__FORMAT: "json",
      SSE__RETRY: "20ms",
      ...settings,
    };
    if (redis === undefined) delete all.REDIS__URL;
    const env = Object.fromEntries(Object.entries(all).map(([name, value]) => [`I2M__${name}`, value]));
    const childProcess = this.run(binary, [], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, ...env },
    });
    const gateway = new Gateway(childProcess, await listenAddress(childProcess.child));
    await waitUntil("the gateway's Redis", async () => (await fetch(`${gateway.url}/readyz`)).ok);
    return gateway;
  }

  /** Starts a server with an empty page at every path, and returns its origin. */
  async origin() {
    const server = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>A page</title><link rel=icon href=data:,>");
    });
    return `http://${await this.#listen(server, () => server.closeAllConnections())}`;
  }

  /** Starts a proxy to the URL `target`, on which connections can be cut. */
  async proxyTo(target) {
    const proxy = new Proxy(target);
    proxy.url = `http://${await this.#listen(proxy.server, () => proxy.close())}`;
    return proxy;
  }

  run(program, args, options) {
    const childProcess = new ChildProcess(spawn(program, args, options));
    this.onTeardown(() => childProcess.stop());
    return childProcess;
  }

  async #listen(server, closeConnections) {
    await new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    this.onTeardown(async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      closeConnections();
      await closed;
    });
    return `127.0.0.1:${server.address().port}`;
  }
}

class ChildProcess {
  constructor(child) {
    this.child = child;
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", resolve);
    });
    // A test that waits for this process reports the error, so the rejection is handled here.
    this.ended.catch(() => {});
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    child.once("exit", () => process.off("exit", kill));
  }

  /** Sends SIGTERM, and SIGKILL after the time-out. */
  async stop() {
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), TIMEOUT_MS);
    await this.ended.catch(() => {});
    clearTimeout(timer);
  }
}

/** A running gateway, with the API calls of clients and workers. */
export class Gateway {
  #process;

  constructor(childProcess, address) {
    this.#process = childProcess;
    this.address = address;
    this.url = `http://${address}`;
  }

  stop() {
    return this.#process.stop();
  }

  async call(method, path, body) {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { Authorization: "Bearer a-key", "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? undefined : response.json();
  }

  createJob(...filenames) {
    return this.call("POST", "/api/v1/jobs", { files: filenames.map((filename) => ({ filename })) });
  }

  report(job, file, progress, message) {
    return this.call("POST", `${job.links.self}/files/${file}/progress`, { progress, message });
  }

  complete(job, file, overrides = {}) {
    const result = {
      filename: `${file}.glb`,
      size: 81920,
      mime_type: "model/gltf-binary",
      url: `https://models.example/${file}.glb`,
      ...overrides,
    };
    return this.call("PUT", `${job.links.self}/files/${file}/result`, { status: "completed", result });
  }

  remove(job) {
    return this.call("DELETE", job.links.self);
  }

  fail(job, file, error) {
    return this.call("PUT", `${job.links.self}/files/${file}/result`, { status: "failed", error });
  }
}

/** A TCP proxy that records stream requests and cuts connections at given texts. */
class Proxy {
  /** The request heads of event streams, in order. */
  streams = [];
  #sockets = new Set();
  #cuts = [];

  constructor(target) {
    const { hostname, port } = new URL(target);
    this.server = createTcpServer((browser) => this.#connectPair(browser, createConnection(port, hostname)));
  }

  /** Cuts the connection right after it has forwarded `text`. `how` is "close" or "reset". */
  cutAfter(text, how) {
    this.#cuts.push({ text, how });
  }

  get pendingCuts() {
    return this.#cuts.length;
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
  }

  #connectPair(browser, gateway) {
    const pair = [browser, gateway];
    for (const socket of pair) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        for (const socket of pair) socket.destroy();
      });
    }
    browser.on("data", (bytes) => {
      const head = bytes.toString("latin1");
      if (/^GET \S+\/stream/.test(head)) this.streams.push(head);
      gateway.write(bytes);
    });
    gateway.on("data", (bytes) => this.#forward(bytes, browser));
  }

  #forward(bytes, browser) {
    const [cut] = this.#cuts;
    // The gateway writes each event at once, so on loopback a text within one event is never split between two reads.
    const index = cut ? bytes.indexOf(cut.text) : -1;
    if (index < 0) {
      browser.write(bytes);
      return;
    }
    this.#cuts.shift();
    browser.write(bytes.subarray(0, index + cut.text.length), () => {
      if (cut.how === "reset") browser.resetAndDestroy();
      else browser.destroy();
    });
  }
}

/** A free port, for servers that do not accept port 0. Another process may take it meanwhile. */
export async function freePort() {
  const server = createTcpServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The reply of Redis to a command, or an empty string if there is none. */
export function redisCli(port, ...command) {
  const { stdout } = spawnSync("redis-cli", ["-p", String(port), ...command], { encoding: "utf8" });
  return stdout ?? "";
}

/** Starts a Chromium with its own profile. */
export function launchChromium() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? findChromium(),
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
    ],
  });
}

function findChromium() {
  const folders = process.env.PATH.split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const found = names.flatMap((name) => folders.map((path) => join(path, name))).find((path) => existsSync(path));
  if (!found) throw new Error(`none of ${names.join(", ")} is installed; set CHROMIUM to the path of a browser`);
  return found;
}

/** Whether a Redis at `socket` replies to PING. */
function respondsToPing(socket) {
  return new Promise((resolve) => {
    const connection = createConnection(socket, () => connection.write("PING\r\n"));
    connection.once("data", (bytes) => {
      connection.destroy();
      resolve(bytes.toString().startsWith("+PONG"));
    });
    connection.once("error", () => resolve(false));
  });
}

/** The address in the "listening" log line of the gateway. Later output is read, so that the pipe never fills up. */
function listenAddress(child) {
  const outputLines = [];
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      outputLines.push(line);
      // Lines that are not JSON are the banner.
      const entry = line.startsWith("{") ? JSON.parse(line) : {};
      if (entry.message === "listening") resolve(entry.address);
    });
    lines.once("close", () => reject(new Error(`the gateway ended:\n${outputLines.join("\n")}`)));
    child.once("error", reject);
  });
}
