// Records the events that the browser's EventSource receives for a job.

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

/** Opens an empty page of `origin` in which an EventSource connects to `url`. */
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

  /** Waits for an event with this name and these values in its data. Returns all events so far. */
  async waitFor(name, values = {}) {
    await this.page.waitForFunction(
      ({ name, values }) =>
        events.some((event) => event.name === name && Object.entries(values).every(([key, value]) => event.data[key] === value)),
      { name, values },
    );
    return this.events();
  }

  /** Waits until the browser stops reconnecting. Returns all events so far. */
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
