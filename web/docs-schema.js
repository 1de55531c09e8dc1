// A schema for people: its fields, their types, limits and examples; what it refers to opens on demand.

import { el } from "./dom.js";
import { prose } from "./docs-text.js";

const PREFIX = "#/components/schemas/";

/** The fields of `schema`, as far as it has any. */
export function schemaView(schema, schemas) {
  const { name, target } = resolve(schema, schemas);
  const choices = target.oneOf ?? target.anyOf;
  const view = el("div", { class: "schema" });
  if (target.description) view.append(...prose(target.description));
  if (choices) {
    view.append(el("p", {}, "One of:"), ...choices.map((it) => nested(it, schemas, nameOf(it) ?? typeOf(it, schemas))));
  } else if (target.properties) {
    const rows = Object.entries(target.properties).map(([field, it]) =>
      fieldRow(field, it, target.required?.includes(field) ?? false, schemas),
    );
    view.append(table(["field", "type", ""], rows));
  } else if (target.type === "array") {
    view.append(nested(target.items, schemas, `each: ${typeOf(target.items, schemas)}`));
  } else {
    view.append(el("p", { class: "type" }, limits(target, name ?? typeOf(target, schemas))));
  }
  return view;
}

/** A table that a narrow screen can scroll. */
export function table(heads, rows) {
  const head = el("tr", {}, ...heads.map((it) => el("th", { scope: "col" }, it)));
  return el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

/** What a value is, in a few words. */
export function typeOf(schema, schemas) {
  if (schema.$ref) {
    const { name, target } = resolve(schema, schemas);
    return target.type === "string" && !target.enum ? "string" : name;
  }
  const choices = (schema.oneOf ?? schema.anyOf)?.map((it) => typeOf(it, schemas));
  if (choices) return choices.join(" or ");
  if (schema.type === "array") return `array of ${typeOf(schema.items, schemas)}`;
  return [schema.type ?? "anything"].flat().join(" or ");
}

/** A type with its limits. */
export function limits(schema, type) {
  const said = [type];
  if (schema.format) said.push(schema.format);
  if (schema.enum) said.push(schema.enum.join(" | "));
  const range = (least, most, unit) => {
    if (least === undefined && most === undefined) return;
    said.push(`${least ?? 0} to ${most ?? "any"}${unit}`);
  };
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  if (schema.maximum !== undefined && schema.maximum < 2 ** 31) range(schema.minimum, schema.maximum, "");
  if (schema.pattern) said.push(schema.pattern);
  return said.join(", ");
}

export function resolve(schema, schemas) {
  const name = nameOf(schema);
  return { name, target: name ? { ...schemas[name], ...without$ref(schema) } : schema };
}

function without$ref({ $ref, ...rest }) {
  return rest;
}

const nameOf = (schema) => (schema.$ref?.startsWith(PREFIX) ? schema.$ref.slice(PREFIX.length) : undefined);

function fieldRow(field, schema, isRequired, schemas) {
  const { target } = resolve(schema, schemas);
  const notes = target.description ? prose(target.description) : [];
  const inner = [schema, schema.items, ...(schema.oneOf ?? [])].find((it) => it && opens(it, schemas));
  if (inner) notes.push(nested(inner, schemas, nameOf(inner) ?? "fields"));
  return el(
    "tr",
    {},
    el("td", {}, el("code", {}, field), isRequired ? "" : el("span", { class: "type" }, " optional")),
    el("td", { class: "type" }, limits(target, typeOf(schema, schemas))),
    el("td", {}, ...notes),
  );
}

/** Whether there is more to a schema than its type says. */
function opens(schema, schemas) {
  const { target } = resolve(schema, schemas);
  return Boolean(target.properties || (nameOf(schema) && (target.oneOf ?? target.anyOf)));
}

/** Made when it is opened: schemas may hold themselves. */
function nested(schema, schemas, title) {
  const view = el("details", {}, el("summary", {}, el("code", {}, title)));
  view.addEventListener("toggle", () => view.append(schemaView(schema, schemas)), { once: true });
  return view;
}
