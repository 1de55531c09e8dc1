// Writes src/api.ts, the types of the API, from the document of the service that I2M_BINARY names.
// With --check it only says whether the file is current.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

import openapiTS, { astToString } from "openapi-typescript";

const FILE = new URL("src/api.ts", import.meta.url);
const HEADER = "// Made by `npm run types` from the service's API document; not for editing.\n\n";

const binary = process.env.I2M_BINARY ?? "../../target/debug/image2model-gateway";
const document = JSON.parse(execFileSync(binary, ["routes", "--openapi"], { maxBuffer: 1 << 26 }));
for (const operation of Object.values(document.paths).flatMap(Object.values)) {
  // Every error is a Problem, which GatewayError reads; and examples are for people.
  const responses = Object.entries(operation.responses).filter(([status]) => status < "400");
  operation.responses = Object.fromEntries(responses);
  const bodies = [operation.requestBody, ...Object.values(operation.responses)];
  for (const media of bodies.flatMap((body) => Object.values(body?.content ?? {}))) delete media.example;
}
const types = HEADER + astToString(await openapiTS(document, { alphabetize: true }));

if (!process.argv.includes("--check")) {
  writeFileSync(FILE, types);
} else if (readFileSync(FILE, "utf8") !== types) {
  console.error("src/api.ts is not what the service's API document says: npm run types");
  process.exitCode = 1;
}
