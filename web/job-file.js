// One file on the job page: its progress, then its preview and download link.

import { getResult } from "./api.js";
import { el, progressBar, setText } from "./dom.js";
import { bytes } from "./format.js";
import { isFinished, statusLabel } from "./job.js";
import { thumbnail } from "./new-job.js";

export function fileCard(job, file, index) {
  const name = el("span", { class: "name" });
  const status = el("span", { class: "badge" });
  const percent = el("span", { class: "file-percent" });
  const progress = progressBar(file.name ?? file.id);
  const note = el("p", { class: "note" });
  const facts = el("p", { class: "file-facts" });
  const pictures = el("div", { class: "pictures" }, thumbnail(job.id, index));
  const links = el("p", { class: "links" });
  const node = el(
    "li",
    { class: "file", "data-file": file.id },
    pictures,
    el("div", { class: "file-body" }, el("div", { class: "file-head" }, name, percent, status), progress.node, note, facts, links),
  );
  let shownResult;
  const update = (file) => {
    setText(name, file.name ?? file.id);
    name.title = file.name ?? "";
    setText(status, statusLabel(file.status));
    status.dataset.state = file.status;
    setText(percent, file.status === "processing" ? `${file.progress} %` : "");
    progress.node.hidden = isFinished(file);
    progress.set(file.progress ?? 0, file.status);
    setText(note, fileNote(file));
    note.classList.toggle("error", file.status === "failed");
    setText(facts, [file.size !== undefined && bytes(file.size), file.type].filter(Boolean).join(" · "));
    if (file.status === "completed") readResult(job, file);
    if (file.result && shownResult !== file.result) {
      shownResult = file.result;
      showResult(file.result, pictures, links);
    }
  };
  return { node, update };
}

function fileNote(file) {
  if (file.error) return file.error;
  if (isFinished(file)) return "";
  if (file.status === "retrying") return file.attempt ? `Attempt ${file.attempt}: waiting for a worker` : "Waiting for a worker";
  return file.message ?? "";
}

let onResult = () => {};
/** `handler` is called with the job when a result was loaded. */
export const setOnResult = (handler) => (onResult = handler);

async function readResult(job, file) {
  if (file.result || file.resultRequested) return;
  file.resultRequested = true;
  try {
    file.result = (await getResult(job.id, file.id)).result;
    if (file.result) onResult(job);
  } catch {
    // Loaded again after the job's next change, or when the job is opened again.
    file.resultRequested = false;
  }
}

/** Shows a preview only if it is on this host: the page's security policy forbids other hosts. */
function showResult(result, pictures, links) {
  const preview = parseWebUrl(result.rendered_image?.url);
  const model = parseWebUrl(result.url);
  if (preview && preview.origin === location.origin) {
    const image = el("img", { class: "thumb", src: preview.href, alt: `Preview of ${result.filename}`, loading: "lazy" });
    image.addEventListener("error", () => image.remove());
    pictures.append(el("a", { href: preview.href, target: "_blank", rel: "noopener noreferrer" }, image));
  }
  const size = result.size === undefined ? "" : ` (${bytes(result.size)})`;
  links.replaceChildren(
    model
      ? el("a", { class: "download", href: model.href, rel: "noopener noreferrer", ...downloadAttributes(model, result.filename) }, `Download ${result.filename}${size}`)
      : el("code", {}, result.url ?? "no URL"),
    preview ? el("a", { href: preview.href, target: "_blank", rel: "noopener noreferrer" }, "Open the preview") : "",
  );
}

/** Browsers ignore `download` for other hosts, so those links open in a new tab. */
const downloadAttributes = (url, filename) => (url.origin === location.origin ? { download: filename } : { target: "_blank" });

/** `text` as a URL that a browser can open, or undefined, for example for s3: and gs: URLs. */
function parseWebUrl(text) {
  if (!text || !URL.canParse(text, location.href)) return undefined;
  const url = new URL(text, location.href);
  return ["http:", "https:"].includes(url.protocol) ? url : undefined;
}
