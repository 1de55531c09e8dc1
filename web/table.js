// Tables and facts, as the operator's view has them.

import { el } from "./dom.js";

/** A table with a name, which scrolls sideways by itself where it is too wide. `columns` are names; a name that begins with `#` is of numbers. */
export function table(caption, columns, rows) {
  const isNumber = columns.map((it) => it.startsWith("#"));
  const head = columns.map((it, index) => el("th", { scope: "col", class: isNumber[index] ? "number" : null }, it.replace("#", "")));
  const body = rows.map((row) => el("tr", {}, ...row.map((it, index) => el("td", { class: isNumber[index] ? "number" : null }, it))));
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

export const nothing = (text) => el("p", { class: "nothing" }, text);
