// The dashboard at `/`, opened as a visitor does.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { launchChromium, TIMEOUT_MS, waitUntil, World } from "./servers.mjs";

export { TIMEOUT_MS, waitUntil };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What a browser says of an answer that is no success, or of none. */
const FAILED_LOAD = /Failed to load resource/;

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
    world.onTeardown(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    const pageErrors = new PageErrors();
    await pageErrors.attach(page);
    if (key !== undefined) await page.addInitScript((key) => sessionStorage.setItem("i2m.key", key), key);
    if (clock) await page.clock.install();
    await page.goto(`${gateway.url}/${hash}`);
    return { context, page, pageErrors };
  }
}

/** What the page did wrong so far. */
class PageErrors {
  #messages = [];

  async attach(page) {
    page.on("console", (message) => message.type() === "error" && this.#messages.push(message.text()));
    page.on("pageerror", (error) => this.#messages.push(error.stack ?? String(error)));
    await page.exposeFunction("reportViolation", (text) => this.#messages.push(text));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        reportViolation(`the policy forbids ${event.violatedDirective}: ${event.blockedURI}`);
      });
    });
  }

  assertNone() {
    assert.deepEqual(this.#messages, []);
  }

  /** Nothing but answers that the test provoked. */
  assertOnlyFailedLoads() {
    assert.deepEqual(this.#messages.filter((text) => !FAILED_LOAD.test(text)), []);
  }
}

/** Waits until `locator` is to be seen with this text. */
export async function waitForText(locator, text) {
  const matches = (actual) => (text instanceof RegExp ? text.test(actual) : actual === text);
  let lastText;
  await waitUntil(`“${text}”`, async () => {
    lastText = (await locator.allTextContents())[0];
    return lastText !== undefined && matches(lastText.trim()) && (await locator.first().isVisible());
  }).catch((error) => {
    throw new Error(`${error.message}; it was “${lastText}”`);
  });
}

export const jobStatus = (page) => page.locator(".job-title .badge");
export const connection = (page) => page.locator("#connection");
export const jobRow = (page, name) => page.locator(".row", { has: page.getByRole("link", { name }) });

/** The faults that axe finds and calls serious or critical, as text. */
export async function seriousViolations(page) {
  // Evaluated, since the page's policy lets in no script of ours.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const serious = violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  return serious.map((violation) => `${violation.id}: ${violation.nodes.map((node) => `${node.html.slice(0, 120)} (${node.failureSummary})`).join("; ")}`);
}
