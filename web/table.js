// Tables and facts, as the operator's view has them.

import { el } from "./dom.js";

/** A table with a name, which scrolls sideways by itself where it is too wide. `columns` are names; a name that begins with `#` is of numbers. */
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

/** Names with their values. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== "");
  return el("dl", { class: "facts" }, ...known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export const emptyNote = (text) => el("p", { class: "empty-note" }, text);
