// The API page: what /openapi.json says, for people. Loads nothing from elsewhere.

import { $, el, setText } from "./dom.js";
import { limits, resolve, schemaView, table, typeOf } from "./docs-schema.js";
import { inline, prose } from "./docs-text.js";

const document_ = await load();
if (document_) {
  show(document_);
  addEventListener("hashchange", openNamed);
  openNamed();
  $("filter").addEventListener("input", filter);
}

async function load() {
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`${answer.status}`);
    return await answer.json();
  } catch (error) {
    $("introduction").append(el("p", { role: "alert" }, `The API document cannot be read: ${error.message}`));
    return undefined;
  }
}

function show({ info, tags, paths, components }) {
  $("introduction").append(el("p", {}, info.summary, " Version ", info.version, "."), ...prose(info.description));
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, ...operation })),
  );
  for (const tag of tags) {
    const own = operations.filter((it) => it.tags[0] === tag.name);
    const group = el("section", { class: "docs-group", "aria-label": tag.name });
    group.append(el("h2", {}, tag.name), el("p", {}, tag.description));
    group.append(...own.map((it) => operationView(it, components.schemas)));
    $("operations").append(group);
    const links = own.map((it) => el("a", { href: `#${it.operationId}`, "data-words": wordsOf(it) }, it.summary));
    $("nav").append(el("div", {}, el("h2", {}, tag.name), ...links));
  }
  setText($("status"), `${operations.length} operations`);
}

function operationView(operation, schemas) {
  const { method, path, summary, description, deprecated } = operation;
  const head = el(
    "summary",
    {},
    el("span", { class: "method", "data-method": method }, method.toUpperCase()),
    el("span", { class: "path" }, path),
    ...rolesOf(operation).map((it) => el("span", { class: "role" }, it)),
    el("span", { class: "what" }, summary),
  );
  const view = el("details", { class: deprecated ? "card operation old" : "card operation", id: operation.operationId }, head);
  view.dataset.words = wordsOf(operation);
  view.addEventListener(
    "toggle",
    () => {
      const body = el("div", { class: "docs-body" });
      if (description) body.append(...prose(description));
      body.append(...auth(operation), ...parameters(operation, schemas));
      body.append(...request(operation, schemas), ...responses(operation, schemas));
      view.append(body);
    },
    { once: true },
  );
  return view;
}

function rolesOf({ security }) {
  const bearer = security.find((it) => it.bearer)?.bearer ?? [];
  return security.some((it) => it.ticket) ? [...bearer, "ticket"] : bearer;
}

function auth(operation) {
  const roles = rolesOf(operation).filter((it) => it !== "ticket");
  if (roles.length === 0) return [el("p", {}, "Needs no key.")];
  const ticket = operation.security.some((it) => it.ticket) ? ", or a stream ticket in the URL" : "";
  return [el("p", {}, "Needs a key with the role ", roles.join(" or "), ticket, ".")];
}

function parameters({ parameters: all = [] }, schemas) {
  if (all.length === 0) return [];
  const rows = all.map((it) => {
    const { target } = resolve(it.schema, schemas);
    return el(
      "tr",
      {},
      el("td", {}, el("code", {}, it.name), el("span", { class: "type" }, ` ${it.in}${it.required ? "" : ", optional"}`)),
      el("td", { class: "type" }, limits(target, typeOf(it.schema, schemas))),
      el("td", {}, ...(it.description ? inline(it.description) : [])),
    );
  });
  return [el("h3", {}, "Parameters"), table(["name", "type", ""], rows)];
}

function request(operation, schemas) {
  const media = operation.requestBody?.content["application/json"];
  const nodes = [el("h3", {}, "Request"), code(curl(operation, media))];
  if (media) nodes.push(schemaView(media.schema, schemas));
  return nodes;
}

/** A command that asks this service. */
function curl({ method, path, parameters: all = [], security, responses: said }, media) {
  const example = (it) => it.schema?.examples?.[0] ?? it.example;
  const filled = all
    .filter((it) => it.in === "path")
    .reduce((text, it) => text.replace(`{${it.name}}`, example(it)), path);
  const query = all.filter((it) => it.in === "query" && it.required).map((it) => `${it.name}=${example(it)}`);
  const parts = [`curl '${location.origin}${filled}${query.length > 0 ? `?${query.join("&")}` : ""}'`];
  if (said["200"]?.content?.["text/event-stream"]) parts.push("-N");
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  if (security.length > 0) parts.push(`-H "Authorization: Bearer $KEY"`);
  if (media) parts.push(`--json '${JSON.stringify(media.example)}'`);
  return parts.join(" \\\n  ");
}

function responses({ responses: all }, schemas) {
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
        el("span", {}, ...inline(first), ...more.flatMap((it) => [el("br"), ...inline(it)])),
      ),
    );
    for (const [name, it] of Object.entries(response.headers ?? {})) {
      view.append(el("p", {}, el("code", {}, name), ` ${it.description ?? ""}`));
    }
    if (media?.example) view.append(code(JSON.stringify(media.example, null, 2)));
    if (media?.schema && status < "400") view.append(schemaView(media.schema, schemas));
    return view;
  });
  return [el("h3", {}, "Answers"), ...views];
}

const code = (text) => el("pre", { tabindex: 0 }, el("code", {}, text));

function wordsOf(operation) {
  const words = [operation.method, operation.path, operation.summary, operation.tags[0], ...rolesOf(operation)];
  return words.join(" ").toLowerCase();
}

/** Opens the operation that the URL names. */
function openNamed() {
  const named = $(location.hash.slice(1));
  if (named?.tagName !== "DETAILS") return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus();
}

/** Shows the operations that have all words. */
function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const node of document.querySelectorAll("[data-words]")) {
    node.hidden = !words.every((it) => node.dataset.words.includes(it));
    if (!node.hidden && node.tagName === "DETAILS") shown += 1;
  }
  for (const group of document.querySelectorAll(".docs-group, #nav > div")) {
    group.hidden = !group.querySelector("[data-words]:not([hidden])");
  }
  setText($("status"), `${shown} operations`);
}
