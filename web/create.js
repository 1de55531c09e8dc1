// Choosing pictures for a new job. Their bytes stay here; thumbnails are drawn from them.

import { $, announce, el, setText } from "./dom.js";
import { bytes, plural } from "./text.js";

const JOBS_WITH_THUMBNAILS = 30;

let chosen = [];
const thumbnails = new Map();

/** `create` makes a job of files; it throws what the service says against them. */
export function setUp(create) {
  const drop = $("drop");
  const pictures = $("pictures");
  pictures.addEventListener("change", () => {
    add(pictures.files);
    // Else the same file could not be chosen again.
    pictures.value = "";
  });
  // Wherever on the page something falls: beside the zone, the browser would leave the page for it.
  addEventListener("dragover", (event) => hover(event, drop));
  addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    if (!$("view-jobs").hidden) add(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0 && !$("view-jobs").hidden) add(event.clipboardData.files);
  });
  $("new-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(create);
  });
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

function hover(event, drop) {
  if (!hasFiles(event)) return;
  event.preventDefault();
  drop.classList.add("over");
}

async function submit(create) {
  $("create").disabled = true;
  refuse("");
  try {
    await create(chosen.map((it) => it.file));
    for (const it of chosen) URL.revokeObjectURL(it.url);
    chosen = [];
  } catch (error) {
    refuse(named(error.message));
  }
  draw();
}

/** The service names files by their place. */
const named = (text) => text.replace(/files\[(\d+)\]\.?/, (_, index) => `${chosen[index]?.file.name ?? "a file"}: `);

/** Says beside the pictures what is wrong with them. */
function refuse(text) {
  setText($("new-error"), text);
  $("new-error").hidden = !text;
}

function add(files) {
  const others = [...files].filter((it) => !it.type.startsWith("image/"));
  const pictures = [...files].filter((it) => it.type.startsWith("image/"));
  chosen.push(...pictures.map((file) => ({ file, url: URL.createObjectURL(file) })));
  const names = others.map((it) => `${it.name} (${it.type || "of no known type"})`).join(", ");
  refuse(names && `Left out, since only pictures can be made models: ${names}.`);
  if (pictures.length > 0) announce(`${plural(chosen.length, "picture")} chosen.`);
  draw();
}

function draw() {
  $("create").disabled = chosen.length === 0;
  setText($("create"), chosen.length > 1 ? `Create job of ${chosen.length} pictures` : "Create job");
  $("chosen").replaceChildren(...chosen.map(chosenItem));
}

function chosenItem(it) {
  const remove = el("button", { type: "button", class: "plain", "aria-label": `Remove ${it.file.name}`, onclick: () => leaveOut(it) }, "×");
  const name = el("span", { class: "name", title: it.file.name }, it.file.name);
  return el("li", {}, picture(it.url), name, el("span", { class: "size" }, bytes(it.file.size)), remove);
}

function leaveOut(item) {
  const index = chosen.indexOf(item);
  URL.revokeObjectURL(item.url);
  chosen = chosen.filter((it) => it !== item);
  refuse("");
  draw();
  const next = $("chosen").children[Math.min(index, chosen.length - 1)];
  (next?.querySelector("button") ?? $("pictures")).focus();
}

/** Keeps the pictures of a job to show beside its files. */
export function keepThumbnails(jobId, files) {
  thumbnails.set(jobId, files.map((it) => URL.createObjectURL(it)));
  if (thumbnails.size > JOBS_WITH_THUMBNAILS) {
    const [oldest, urls] = thumbnails.entries().next().value;
    urls.forEach((it) => URL.revokeObjectURL(it));
    thumbnails.delete(oldest);
  }
}

/** The picture of a file, or a blank in its place. */
export const thumbnail = (jobId, index) => picture(thumbnails.get(jobId)?.[index]);

function picture(url) {
  const blank = el("span", { class: "thumb blank", "aria-hidden": "true" });
  if (!url) return blank;
  return el("img", { class: "thumb", src: url, alt: "", onerror: (event) => event.target.replaceWith(blank) });
}
