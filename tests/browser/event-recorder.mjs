// A page that watches a job with the browser's own EventSource.

import { TIMEOUT_MS } from "./servers.mjs";

const EVENT_NAMES = [
  "task_queued",
  "task_progress",
  "file_update",
  "task_completed",
  "task_failed",
  "task_cancelled",
  "resync",
  "connection_timeout",
];

/** Opens an empty page of `origin`, in which an EventSource follows `url`. */
export async function recordEvents(browser, origin, url) {
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.goto(origin);
  await page.evaluate(
    ({ url, names }) => {
      globalThis.events = [];
      globalThis.source = new EventSource(url);
      for (const name of names) {
        source.addEventListener(name, (event) => {
          events.push({ name, id: event.lastEventId, data: JSON.parse(event.data) });
        });
      }
    },
    { url, names: EVENT_NAMES },
  );
  return new EventRecorder(page);
}

class EventRecorder {
  constructor(page) {
    this.page = page;
  }

  /** Every event so far, as soon as there is one with this name whose data has these values. */
  async waitFor(name, values = {}) {
    await this.page.waitForFunction(
      ({ name, values }) =>
        events.some((event) => event.name === name && Object.entries(values).every(([key, value]) => event.data[key] === value)),
      { name, values },
    );
    return this.events();
  }

  /** Every event so far, once the browser has given up coming back. */
  async waitForClose() {
    await this.page.waitForFunction(() => source.readyState === EventSource.CLOSED);
    return this.events();
  }

  events() {
    return this.page.evaluate(() => events);
  }

  close() {
    return this.page.evaluate(() => source.close());
  }
}
