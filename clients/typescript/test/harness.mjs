// Starts the real gateway for one test.

import { World } from "../../../tests/browser/servers.mjs";

export { launchChromium } from "../../../tests/browser/servers.mjs";

export const KEY = "a-key";

/** Starts a gateway with `settings`. It closes streams every second, so that clients must reconnect. */
export async function startGateway(t, settings = {}) {
  const world = new World(t);
  const gateway = await world.gateway(await world.redis(), { SSE__DEFAULT_TIMEOUT: "1s", ...settings });
  return { world, gateway };
}

export async function collect(events) {
  const list = [];
  for await (const event of events) list.push(event);
  return list;
}
