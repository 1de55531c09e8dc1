// The dashboard at `/`, opened as a visitor does.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { launchChromium, PATIENCE_MS, until, World } from "./servers.mjs";

export { PATIENCE_MS, until };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What a browser says of an answer that is no success, or of none. */
const REFUSED = /Failed to load resource/;

/** One Chromium for the tests of a file. */
export class Browser {
  #browser;

  async launch() {
    this.#browser = await launchChromium();
  }

  close() {
    return this.#browser?.close();
  }

  /** A new service, and the page of it with the key `key`. */
  async open(t, { settings = {}, key = "a-key", hash = "", clock = false, ...options } = {}) {
    const world = new World(t);
    const redis = await world.redis();
    const gateway = await world.gateway(redis, settings);
    const visit = await this.visit(world, gateway, { key, hash, clock, ...options });
    return { world, redis, gateway, ...visit };
  }

  /** The page of `gateway` in a browser profile of its own. */
  async visit(world, gateway, { key, hash = "", clock = false, ...options }) {
    const context = await this.#browser.newContext(options);
    world.endWith(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const faults = new Faults();
    await faults.watch(page);
    if (key !== undefined) await page.addInitScript((it) => sessionStorage.setItem("i2m.key", it), key);
    if (clock) await page.clock.install();
    await page.goto(`${gateway.url}/${hash}`);
    return { context, page, faults };
  }
}

/** What the page did wrong so far. */
class Faults {
  #all = [];

  async watch(page) {
    page.on("console", (it) => it.type() === "error" && this.#all.push(it.text()));
    page.on("pageerror", (it) => this.#all.push(it.stack ?? String(it)));
    await page.exposeFunction("noteViolation", (text) => this.#all.push(text));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (it) => {
        noteViolation(`the policy forbids ${it.violatedDirective}: ${it.blockedURI}`);
      });
    });
  }

  none() {
    assert.deepEqual(this.#all, []);
  }

  /** Nothing but answers that the test provoked. */
  noneButRefusals() {
    assert.deepEqual(this.#all.filter((it) => !REFUSED.test(it)), []);
  }
}

/** Waits until `locator` is to be seen with this text. */
export async function untilText(locator, text) {
  const fits = (it) => (text instanceof RegExp ? text.test(it) : it === text);
  let last;
  await until(`“${text}”`, async () => {
    last = (await locator.allTextContents())[0];
    return last !== undefined && fits(last.trim()) && (await locator.first().isVisible());
  }).catch((error) => {
    throw new Error(`${error.message}; it was “${last}”`);
  });
}

export const state = (page) => page.locator(".job-title .badge");
export const connection = (page) => page.locator("#connection");
export const row = (page, name) => page.locator(".row", { has: page.getByRole("link", { name }) });

/** The faults that axe finds and calls serious or critical, as text. */
export async function seriousFaults(page) {
  // Evaluated, since the page's policy lets in no script of ours.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const serious = violations.filter((it) => ["serious", "critical"].includes(it.impact));
  return serious.map((it) => `${it.id}: ${it.nodes.map((node) => `${node.html.slice(0, 120)} (${node.failureSummary})`).join("; ")}`);
}
