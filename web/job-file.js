// One file of the open job: how far it is, and when it is done its preview and its download.

import { getResult } from "./api.js";
import { thumbnail } from "./create.js";
import { bar, el, setText } from "./dom.js";
import { isFinished, word } from "./job.js";
import { bytes } from "./text.js";

export function fileCard(job, file, index) {
  const name = el("span", { class: "name" });
  const state = el("span", { class: "badge" });
  const percent = el("span", { class: "file-percent" });
  const progress = bar(file.name ?? file.id);
  const note = el("p", { class: "note" });
  const facts = el("p", { class: "file-facts" });
  const pictures = el("div", { class: "pictures" }, thumbnail(job.id, index));
  const links = el("p", { class: "links" });
  const node = el(
    "li",
    { class: "file", "data-file": file.id },
    pictures,
    el("div", { class: "file-body" }, el("div", { class: "file-head" }, name, percent, state), progress.node, note, facts, links),
  );
  let shown;
  const update = (file) => {
    setText(name, file.name ?? file.id);
    name.title = file.name ?? "";
    setText(state, word(file.status));
    state.dataset.state = file.status;
    setText(percent, file.status === "processing" ? `${file.progress} %` : "");
    progress.node.hidden = isFinished(file);
    progress.set(file.progress ?? 0, file.status);
    setText(note, noteOf(file));
    note.classList.toggle("error", file.status === "failed");
    setText(facts, [file.size !== undefined && bytes(file.size), file.type].filter(Boolean).join(" · "));
    if (file.status === "completed") readResult(job, file);
    if (file.result && shown !== file.result) {
      shown = file.result;
      showResult(file.result, pictures, links);
    }
  };
  return { node, update };
}

function noteOf(file) {
  if (file.error) return file.error;
  if (isFinished(file)) return "";
  if (file.status === "retrying") return `Attempt ${file.attempt ?? ""} waits for a worker`;
  return file.message ?? "";
}

let onResult = () => {};
/** `heard` is told when a result of a job was read. */
export const onRead = (heard) => (onResult = heard);

async function readResult(job, file) {
  if (file.result || file.isRead) return;
  file.isRead = true;
  try {
    file.result = (await getResult(job.id, file.id)).result;
    if (file.result) onResult(job);
  } catch {
    // Read again after the job's next change, or when it is opened again.
    file.isRead = false;
  }
}

/** A preview stands beside the picture if it comes from this host; the page may load from no other. */
function showResult(result, pictures, links) {
  const preview = addressOf(result.rendered_image?.url);
  const model = addressOf(result.url);
  if (preview && preview.origin === location.origin) {
    const image = el("img", { class: "thumb", src: preview.href, alt: `Preview of ${result.filename}`, loading: "lazy" });
    image.addEventListener("error", () => image.remove());
    pictures.append(el("a", { href: preview.href, target: "_blank", rel: "noopener noreferrer" }, image));
  }
  const size = result.size === undefined ? "" : ` (${bytes(result.size)})`;
  links.replaceChildren(
    model
      ? el("a", { class: "download", href: model.href, rel: "noopener noreferrer", ...saved(model, result.filename) }, `Download ${result.filename}${size}`)
      : el("code", {}, result.url ?? "no address"),
    preview ? el("a", { href: preview.href, target: "_blank", rel: "noopener noreferrer" }, "Open the preview") : "",
  );
}

/** Of another host, browsers open what they may not save. */
const saved = (url, filename) => (url.origin === location.origin ? { download: filename } : { target: "_blank" });

/** An address that a browser can open; s3: and gs: are none. */
function addressOf(text) {
  if (!text || !URL.canParse(text, location.href)) return undefined;
  const url = new URL(text, location.href);
  return ["http:", "https:"].includes(url.protocol) ? url : undefined;
}
