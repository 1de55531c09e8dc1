// The API page: renders /openapi.json. Loads nothing from other hosts.

import { inline, prose } from "./docs-markdown.js";
import { resolveRef, schemaView, table, typeName, typeWithLimits } from "./docs-schema.js";
import { byId, el, setText } from "./dom.js";

const apiDocument = await loadDocument();
if (apiDocument) {
  render(apiDocument);
  addEventListener("hashchange", openFromHash);
  openFromHash();
  byId("operation-filter").addEventListener("input", filterOperations);
}

async function loadDocument() {
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`${response.status}`);
    return await response.json();
  } catch (error) {
    byId("introduction").append(el("p", { role: "alert" }, `Cannot load the API document: ${error.message}`));
    return undefined;
  }
}

function render({ info, tags, paths, components }) {
  byId("introduction").append(el("p", {}, info.summary, " Version ", info.version, "."), ...prose(info.description));
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, ...operation })),
  );
  for (const tag of tags) {
    const tagOperations = operations.filter((operation) => operation.tags[0] === tag.name);
    const group = el("section", { class: "docs-group", "aria-label": tag.name });
    group.append(el("h2", {}, tag.name), el("p", {}, tag.description));
    group.append(...tagOperations.map((operation) => operationView(operation, components.schemas)));
    byId("operations").append(group);
    const links = tagOperations.map((operation) => el("a", { href: `#${operation.operationId}`, "data-search": searchText(operation) }, operation.summary));
    byId("nav").append(el("div", {}, el("h2", {}, tag.name), ...links));
  }
  setText(byId("status"), `${operations.length} operations`);
}

function operationView(operation, schemas) {
  const { method, path, summary, description, deprecated } = operation;
  const head = el(
    "summary",
    {},
    el("span", { class: "method", "data-method": method }, method.toUpperCase()),
    el("span", { class: "path" }, path),
    ...rolesOf(operation).map((role) => el("span", { class: "role" }, role)),
    el("span", { class: "operation-summary" }, summary),
  );
  const view = el("details", { class: deprecated ? "card operation deprecated" : "card operation", id: operation.operationId }, head);
  view.dataset.search = searchText(operation);
  view.addEventListener(
    "toggle",
    () => {
      const body = el("div", { class: "docs-body" });
      if (description) body.append(...prose(description));
      body.append(...authentication(operation), ...parameterSection(operation, schemas));
      body.append(...requestSection(operation, schemas), ...responseSection(operation, schemas));
      view.append(body);
    },
    { once: true },
  );
  return view;
}

function rolesOf({ security }) {
  const bearer = security.find((scheme) => scheme.bearer)?.bearer ?? [];
  return security.some((scheme) => scheme.ticket) ? [...bearer, "ticket"] : bearer;
}

function authentication(operation) {
  const roles = rolesOf(operation).filter((role) => role !== "ticket");
  if (roles.length === 0) return [el("p", {}, "No API key required.")];
  const ticket = operation.security.some((scheme) => scheme.ticket) ? ", or a stream ticket in the URL" : "";
  return [el("p", {}, "Requires an API key with the role ", roles.join(" or "), ticket, ".")];
}

function parameterSection({ parameters: all = [] }, schemas) {
  if (all.length === 0) return [];
  const rows = all.map((parameter) => {
    const { target } = resolveRef(parameter.schema, schemas);
    return el(
      "tr",
      {},
      el("td", {}, el("code", {}, parameter.name), el("span", { class: "type" }, ` ${parameter.in}${parameter.required ? "" : ", optional"}`)),
      el("td", { class: "type" }, typeWithLimits(target, typeName(parameter.schema, schemas))),
      el("td", {}, ...(parameter.description ? inline(parameter.description) : [])),
    );
  });
  return [el("h3", {}, "Parameters"), table(["name", "type", ""], rows)];
}

function requestSection(operation, schemas) {
  const media = operation.requestBody?.content["application/json"];
  const nodes = [el("h3", {}, "Request"), codeBlock(curlCommand(operation, media))];
  if (media) nodes.push(schemaView(media.schema, schemas));
  return nodes;
}

/** A curl command that calls the operation on this service. */
function curlCommand({ method, path, parameters: all = [], security, responses }, media) {
  const example = (parameter) => parameter.schema?.examples?.[0] ?? parameter.example;
  const filled = all
    .filter((parameter) => parameter.in === "path")
    .reduce((text, parameter) => text.replace(`{${parameter.name}}`, example(parameter)), path);
  const query = all.filter((parameter) => parameter.in === "query" && parameter.required).map((parameter) => `${parameter.name}=${example(parameter)}`);
  const parts = [`curl '${location.origin}${filled}${query.length > 0 ? `?${query.join("&")}` : ""}'`];
  if (responses["200"]?.content?.["text/event-stream"]) parts.push("-N");
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  if (security.length > 0) parts.push(`-H "Authorization: Bearer $KEY"`);
  if (media) parts.push(`--json '${JSON.stringify(media.example)}'`);
  return parts.join(" \\\n  ");
}

function responseSection({ responses: all }, schemas) {
  const views = Object.entries(all).map(([status, response]) => {
    const [media] = Object.values(response.content ?? {});
    const [first, ...more] = response.description.split("\n\n");
    const view = el(
      "details",
      { class: "response" },
      el(
        "summary",
        {},
        el("span", { class: status >= "400" ? "status bad" : "status" }, status),
        el("span", {}, ...inline(first), ...more.flatMap((paragraph) => [el("br"), ...inline(paragraph)])),
      ),
    );
    for (const [name, header] of Object.entries(response.headers ?? {})) {
      view.append(el("p", {}, el("code", {}, name), ` ${header.description ?? ""}`));
    }
    if (media?.example) view.append(codeBlock(JSON.stringify(media.example, null, 2)));
    if (media?.schema && status < "400") view.append(schemaView(media.schema, schemas));
    return view;
  });
  return [el("h3", {}, "Responses"), ...views];
}

const codeBlock = (text) => el("pre", { tabindex: 0 }, el("code", {}, text));

function searchText(operation) {
  const words = [operation.method, operation.path, operation.summary, operation.tags[0], ...rolesOf(operation)];
  return words.join(" ").toLowerCase();
}

/** Opens the operation in the URL fragment. */
function openFromHash() {
  const target = byId(location.hash.slice(1));
  if (target?.tagName !== "DETAILS") return;
  target.open = true;
  target.scrollIntoView();
  target.querySelector("summary").focus();
}

/** Shows only the operations that match every search word. */
function filterOperations() {
  const words = byId("operation-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const node of document.querySelectorAll("[data-search]")) {
    node.hidden = !words.every((word) => node.dataset.search.includes(word));
    if (!node.hidden && node.tagName === "DETAILS") shown += 1;
  }
  for (const group of document.querySelectorAll(".docs-group, #nav > div")) {
    group.hidden = !group.querySelector("[data-search]:not([hidden])");
  }
  setText(byId("status"), `${shown} operations`);
}
