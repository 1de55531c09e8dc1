// Renders a JSON schema: fields, types and limits. Nested schemas open on demand.

import { prose } from "./docs-markdown.js";
import { el } from "./dom.js";

const PREFIX = "#/components/schemas/";

/** The fields, alternatives, item type or plain type of `schema`. */
export function schemaView(schema, schemas) {
  const { name, target } = resolveRef(schema, schemas);
  const choices = target.oneOf ?? target.anyOf;
  const view = el("div", { class: "schema" });
  if (target.description) view.append(...prose(target.description));
  if (choices) {
    view.append(el("p", {}, "One of:"), ...choices.map((choice) => lazyDetails(choice, schemas, schemaName(choice) ?? typeName(choice, schemas))));
  } else if (target.properties) {
    const rows = Object.entries(target.properties).map(([field, property]) =>
      fieldRow(field, property, target.required?.includes(field) ?? false, schemas),
    );
    view.append(table(["field", "type", ""], rows));
  } else if (target.type === "array") {
    view.append(lazyDetails(target.items, schemas, `items: ${typeName(target.items, schemas)}`));
  } else {
    view.append(el("p", { class: "type" }, typeWithLimits(target, name ?? typeName(target, schemas))));
  }
  return view;
}

/** A table that scrolls sideways on a narrow screen. */
export function table(headings, rows) {
  const head = el("tr", {}, ...headings.map((heading) => el("th", { scope: "col" }, heading)));
  return el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

/** A short type name, such as `array of string`. */
export function typeName(schema, schemas) {
  if (schema.$ref) {
    const { name, target } = resolveRef(schema, schemas);
    return target.type === "string" && !target.enum ? "string" : name;
  }
  const choices = (schema.oneOf ?? schema.anyOf)?.map((choice) => typeName(choice, schemas));
  if (choices) return choices.join(" or ");
  if (schema.type === "array") return `array of ${typeName(schema.items, schemas)}`;
  return [schema.type ?? "anything"].flat().join(" or ");
}

/** The type name with its format, values, ranges and pattern. */
export function typeWithLimits(schema, type) {
  const parts = [type];
  if (schema.format) parts.push(schema.format);
  if (schema.enum) parts.push(schema.enum.join(" | "));
  const range = (min, max, unit) => {
    if (min === undefined && max === undefined) return;
    if (max === undefined) parts.push(`at least ${min}${unit}`);
    else parts.push(`${min ?? 0} to ${max}${unit}`);
  };
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  if (schema.maximum !== undefined && schema.maximum < 2 ** 31) range(schema.minimum, schema.maximum, "");
  if (schema.pattern) parts.push(schema.pattern);
  return parts.join(", ");
}

export function resolveRef(schema, schemas) {
  const name = schemaName(schema);
  return { name, target: name ? { ...schemas[name], ...withoutRef(schema) } : schema };
}

function withoutRef({ $ref, ...rest }) {
  return rest;
}

const schemaName = (schema) => (schema.$ref?.startsWith(PREFIX) ? schema.$ref.slice(PREFIX.length) : undefined);

function fieldRow(field, schema, isRequired, schemas) {
  const { target } = resolveRef(schema, schemas);
  const notes = target.description ? prose(target.description) : [];
  const inner = [schema, schema.items, ...(schema.oneOf ?? [])].find((candidate) => candidate && hasDetails(candidate, schemas));
  if (inner) notes.push(lazyDetails(inner, schemas, schemaName(inner) ?? "fields"));
  return el(
    "tr",
    {},
    el("td", {}, el("code", {}, field), isRequired ? "" : el("span", { class: "type" }, " optional")),
    el("td", { class: "type" }, typeWithLimits(target, typeName(schema, schemas))),
    el("td", {}, ...notes),
  );
}

/** Whether a schema has fields or alternatives of its own. */
function hasDetails(schema, schemas) {
  const { target } = resolveRef(schema, schemas);
  return Boolean(target.properties || (schemaName(schema) && (target.oneOf ?? target.anyOf)));
}

/** Rendered when opened, since a schema may contain itself. */
function lazyDetails(schema, schemas, title) {
  const view = el("details", {}, el("summary", {}, el("code", {}, title)));
  view.addEventListener("toggle", () => view.append(schemaView(schema, schemas)), { once: true });
  return view;
}
