// The little Markdown that the API document has: paragraphs, tables, **bold** and `code`. Text nodes only, never markup.

import { el } from "./dom.js";

/** The elements of a text. */
export function prose(text) {
  const blocks = text.split(/\n\s*\n/).filter((block) => block.trim());
  return blocks.map((block) => (block.startsWith("|") ? table(block) : el("p", {}, ...inline(block))));
}

/** The nodes of a line. */
export function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}

function table(block) {
  const rows = block.trim().split("\n").map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  const [head, , ...body] = rows;
  const tableRow = (cells, tag) => el("tr", {}, ...cells.map((cell) => el(tag, {}, ...inline(cell))));
  const content = el("table", {}, el("thead", {}, tableRow(head, "th")), el("tbody", {}, ...body.map((row) => tableRow(row, "td"))));
  return el("div", { class: "scroll", tabindex: 0 }, content);
}
