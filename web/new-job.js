// The form for a new job. Picture data stays in the browser, where it is shown as thumbnails.

import { announce, byId, el, setText } from "./dom.js";
import { bytes, pluralize } from "./format.js";

const MAX_JOBS_WITH_THUMBNAILS = 30;

let chosen = [];
const thumbnails = new Map();

/** `createJob` creates a job from files and throws an ApiError if the service rejects them. */
export function setUp(createJob) {
  const dropZone = byId("drop-zone");
  const pictures = byId("picture-input");
  pictures.addEventListener("change", () => {
    addFiles(pictures.files);
    // Without this, choosing the same file again would not fire a change event.
    pictures.value = "";
  });
  // The whole page accepts drops: a file dropped outside the zone would replace the page.
  addEventListener("dragover", (event) => onDragOver(event, dropZone));
  addEventListener("dragleave", (event) => event.relatedTarget === null && dropZone.classList.remove("drag-over"));
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    dropZone.classList.remove("drag-over");
    if (!byId("view-jobs").hidden) addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0 && !byId("view-jobs").hidden) addFiles(event.clipboardData.files);
  });
  byId("new-job-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submitForm(createJob);
  });
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

function onDragOver(event, dropZone) {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dropZone.classList.add("drag-over");
}

async function submitForm(createJob) {
  byId("create-job").disabled = true;
  showFormError("");
  try {
    await createJob(chosen.map((picture) => picture.file));
    for (const picture of chosen) URL.revokeObjectURL(picture.url);
    chosen = [];
  } catch (error) {
    showFormError(withFileNames(error.message));
  }
  render();
}

/** Replaces `files[0]` in an error of the service with the name of that file. */
const withFileNames = (text) => text.replace(/files\[(\d+)\]\.?/, (_, index) => `${chosen[index]?.file.name ?? "a file"}: `);

/** Shows `text` below the drop zone; an empty text hides it. */
function showFormError(text) {
  setText(byId("new-job-error"), text);
  byId("new-job-error").hidden = !text;
}

function addFiles(files) {
  const others = [...files].filter((file) => !file.type.startsWith("image/"));
  const pictures = [...files].filter((file) => file.type.startsWith("image/"));
  chosen.push(...pictures.map((file) => ({ file, url: URL.createObjectURL(file) })));
  const names = others.map((file) => `${file.name} (${file.type || "unknown type"})`).join(", ");
  showFormError(names && `Skipped files that are not pictures: ${names}.`);
  if (pictures.length > 0) announce(`${pluralize(chosen.length, "picture")} chosen.`);
  render();
}

function render() {
  byId("create-job").disabled = chosen.length === 0;
  setText(byId("create-job"), chosen.length > 1 ? `Create job with ${chosen.length} pictures` : "Create job");
  byId("chosen-pictures").replaceChildren(...chosen.map(pictureItem));
}

function pictureItem(picture) {
  const remove = el("button", { type: "button", class: "borderless", "aria-label": `Remove ${picture.file.name}`, onclick: () => removePicture(picture) }, "×");
  const name = el("span", { class: "name", title: picture.file.name }, picture.file.name);
  return el("li", {}, thumbnailImage(picture.url), name, el("span", { class: "size" }, bytes(picture.file.size)), remove);
}

function removePicture(picture) {
  const index = chosen.indexOf(picture);
  URL.revokeObjectURL(picture.url);
  chosen = chosen.filter((other) => other !== picture);
  showFormError("");
  render();
  const next = byId("chosen-pictures").children[Math.min(index, chosen.length - 1)];
  (next?.querySelector("button") ?? byId("picture-input")).focus();
}

/** Stores the pictures of a job, to show them beside its files. Drops those of the oldest job beyond the limit. */
export function storeThumbnails(jobId, files) {
  thumbnails.set(jobId, files.map((file) => URL.createObjectURL(file)));
  if (thumbnails.size > MAX_JOBS_WITH_THUMBNAILS) {
    const [oldest, urls] = thumbnails.entries().next().value;
    urls.forEach((url) => URL.revokeObjectURL(url));
    thumbnails.delete(oldest);
  }
}

/** The thumbnail of a file, or a blank placeholder. */
export const thumbnail = (jobId, index) => thumbnailImage(thumbnails.get(jobId)?.[index]);

function thumbnailImage(url) {
  const blank = el("span", { class: "thumb blank", "aria-hidden": "true" });
  if (!url) return blank;
  return el("img", { class: "thumb", src: url, alt: "", onerror: (event) => event.target.replaceWith(blank) });
}
