// Follows a job with the browser's EventSource, which needs a ticket in the URL instead of an API key.

import type { EventData, GatewayEvent } from "./models.js";

const EVENT_NAMES: (keyof EventData)[] = [
  "task_queued",
  "task_progress",
  "file_update",
  "task_completed",
  "task_failed",
  "task_cancelled",
  "resync",
];

/**
 * Passes each event of `url`, such as a job's `links.stream`, to `onEvent`. The browser reconnects and resumes
 * automatically. `onEnd` is called when the gateway ends the stream or rejects the URL.
 */
export function listenWithEventSource(
  url: string,
  onEvent: (event: GatewayEvent) => void,
  onEnd?: () => void,
): EventSource {
  const source = new EventSource(url);
  for (const name of EVENT_NAMES) {
    source.addEventListener(name, (message) => {
      const { data, lastEventId } = message as MessageEvent<string>;
      const id = lastEventId ? { id: lastEventId } : {};
      onEvent({ name, data: JSON.parse(data), ...id } as GatewayEvent);
    });
  }
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) onEnd?.();
  });
  return source;
}
