// Opens the dashboard in a browser, and reads it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { launchChromium, TIMEOUT_MS, waitUntil, World } from "./servers.mjs";

export { TIMEOUT_MS, waitUntil };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** The console message of Chromium for an error response or a failed request. */
const FAILED_LOAD = /Failed to load resource/;

/** One Chromium for all tests of a file. */
export class Browser {
  #browser;

  async launch() {
    this.#browser = await launchChromium();
  }

  close() {
    return this.#browser?.close();
  }

  /** Starts a new service and opens its page with the API key `key`. */
  async open(t, { settings = {}, key = "a-key", hash = "", clock = false, ...options } = {}) {
    const world = new World(t);
    const redis = await world.redis();
    const gateway = await world.gateway(redis, settings);
    const visit = await this.visit(world, gateway, { key, hash, clock, ...options });
    return { world, redis, gateway, ...visit };
  }

  /** Opens the page of `gateway` in its own browser profile. */
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

/** The console errors, uncaught exceptions and policy violations of a page. */
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

  /** Allows console errors for failed requests, which the test provoked. */
  assertOnlyFailedLoads() {
    assert.deepEqual(this.#messages.filter((text) => !FAILED_LOAD.test(text)), []);
  }
}

/** Waits until the first match of `locator` is visible with this text. */
export async function waitForText(locator, text) {
  const matches = (actual) => (text instanceof RegExp ? text.test(actual) : actual === text);
  let lastText;
  await waitUntil(`“${text}”`, async () => {
    lastText = (await locator.allTextContents())[0];
    return lastText !== undefined && matches(lastText.trim()) && (await locator.first().isVisible());
  }).catch((error) => {
    throw new Error(`${error.message}; the text was “${lastText}”`);
  });
}

export const jobStatus = (page) => page.locator(".job-title .badge");
export const connection = (page) => page.locator("#connection");
export const jobRow = (page, name) => page.locator(".row", { has: page.getByRole("link", { name }) });

/** The violations that axe rates serious or critical, as text. */
export async function seriousViolations(page) {
  // The content security policy of the page blocks a script element, so the script is evaluated.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const serious = violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  return serious.map((violation) => `${violation.id}: ${violation.nodes.map((node) => `${node.html.slice(0, 120)} (${node.failureSummary})`).join("; ")}`);
}
