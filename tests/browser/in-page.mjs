// Runs an example from the documentation as a script in the page at URL: node in-page.mjs URL FILE

import { readFile } from "node:fs/promises";

import { launchChromium } from "./servers.mjs";

const [url, file] = process.argv.slice(2);
const browser = await launchChromium();
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.log(message.text()));
  await page.goto(url);
  await page.evaluate(`(async () => {\n${await readFile(file, "utf8")}\n})()`);
} finally {
  await browser.close();
}
