// Renders the Markdown of the API document: paragraphs, tables, **bold** and `code`. Inserts text nodes, never HTML.

import { el } from "./dom.js";

/** The block elements of `text`. */
export function prose(text) {
  const blocks = text.split(/\n\s*\n/).filter((block) => block.trim());
  return blocks.map((block) => (block.startsWith("|") ? table(block) : el("p", {}, ...inline(block))));
}

/** The inline nodes of `text`. */
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
