// Tables and definition lists of the operator view.

import { el } from "./dom.js";

/**
 * A table that scrolls sideways if it is too wide. `caption` is its accessible name. A column name that starts with `#`
 * is a numeric column.
 */
export function table(caption, columns, rows) {
  const isNumeric = columns.map((column) => column.startsWith("#"));
  const head = columns.map((column, index) => el("th", { scope: "col", class: isNumeric[index] ? "number" : null }, column.replace("#", "")));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell, index) => el("td", { class: isNumeric[index] ? "number" : null }, cell))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, "data-scroll": caption },
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)),
  );
}

/** A list of names and values. Pairs without a value are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== "");
  return el("dl", { class: "facts" }, ...known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export const emptyNote = (text) => el("p", { class: "empty-note" }, text);
