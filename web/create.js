// Choosing pictures for a new job. Their bytes stay here; thumbnails are drawn from them.

import { $, bytes, complain, el } from "./dom.js";

const MAX_FILES = 25;
const JOBS_WITH_THUMBNAILS = 10;

let chosen = [];
/** job id → one object URL a file, for the jobs created in this tab. */
const thumbnails = new Map();

/** Wires the form; `create` is given the chosen files. */
export function setUp(create) {
  $("pictures").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => hover(event, true));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => hover(event, false));
  drop.addEventListener("drop", (event) => add(event.dataTransfer.files));
  $("new-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("create").disabled = true;
    if (await create(chosen.map((it) => it.file))) {
      for (const it of chosen) URL.revokeObjectURL(it.url);
      chosen = [];
    }
    draw();
  });
}

function hover(event, isOver) {
  event.preventDefault();
  $("drop").classList.toggle("over", isOver);
}

function add(files) {
  const pictures = [...files].filter((it) => it.type.startsWith("image/"));
  if (pictures.length < files.length) complain(new Error("Some of these files are no pictures; they were left out."));
  const room = MAX_FILES - chosen.length;
  if (pictures.length > room) complain(new Error(`A job takes ${MAX_FILES} pictures; the others were left out.`));
  chosen.push(...pictures.slice(0, room).map((file) => ({ file, url: URL.createObjectURL(file) })));
  draw();
}

function draw() {
  $("create").disabled = chosen.length === 0;
  $("chosen").replaceChildren(
    ...chosen.map((it) =>
      el(
        "li",
        {},
        picture(it.url),
        el("span", { class: "name", title: it.file.name }, it.file.name),
        el("span", { class: "size" }, bytes(it.file.size)),
        el("button", { type: "button", class: "plain", "aria-label": `Remove ${it.file.name}`, onclick: () => remove(it) }, "×"),
      ),
    ),
  );
}

function remove(item) {
  URL.revokeObjectURL(item.url);
  chosen = chosen.filter((it) => it !== item);
  draw();
  $("pictures").focus();
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
