// The page of one job: status, files, timeline and webhooks.

import { jobButtons } from "./actions.js";
import { getWebhooks } from "./api.js";
import { byId, el, progressBar, setChildren, setText } from "./dom.js";
import { age, dateTime, duration, pluralize } from "./format.js";
import { finishedCount, isTerminal, jobTitle, shortId, statusLabel } from "./job.js";
import { fileCard } from "./job-file.js";
import { Timeline } from "./timeline.js";
import { webhookList } from "./webhooks.js";

let current;
let elements;

/** Shows `job`. `onDone` is called with the action and the job id, as in `jobButtons`. */
export function open(job, jobs, onDone) {
  current = job;
  const buttons = jobButtons(job.id, jobs, onDone);
  elements = {
    title: el("h1", { tabindex: "-1" }),
    status: el("span", { class: "badge" }),
    percent: el("span", { class: "percent" }),
    progress: el("p", { class: "progress-text" }),
    facts: el("dl", { class: "facts" }),
    error: el("p", { class: "callout", hidden: true }),
    overall: progressBar("Whole job", "bar thick"),
    files: el("ul", { class: "files" }),
    cards: new Map(),
    timeline: new Timeline(),
    webhooks: el("section", { class: "card", "aria-label": "Webhooks", hidden: true }),
    buttons,
  };
  byId("view-job").replaceChildren(
    el("nav", { class: "breadcrumbs", "aria-label": "Breadcrumb" }, el("a", { href: "#" }, "← All jobs")),
    el(
      "header",
      { class: "card job-head" },
      el("div", { class: "job-title" }, elements.title, elements.status, el("div", { class: "job-actions" }, ...buttons.nodes)),
      el("div", { class: "overall" }, elements.percent, el("div", {}, elements.overall.node, elements.progress)),
      elements.error,
      elements.facts,
    ),
    el(
      "div",
      { class: "job-columns" },
      el("section", { class: "card", "aria-labelledby": "files-title" }, el("h2", { id: "files-title" }, "Files"), elements.files),
      el("div", { class: "stack" }, elements.timeline.node, elements.webhooks),
    ),
  );
  draw(job);
  readWebhooks(job.id);
}

/** Shows a message in place of a job that cannot be loaded. */
export function showUnavailable(title, text) {
  current = undefined;
  elements = undefined;
  byId("view-job").replaceChildren(
    el("nav", { class: "breadcrumbs", "aria-label": "Breadcrumb" }, el("a", { href: "#" }, "← All jobs")),
    el("div", { class: "card empty" }, el("h1", { tabindex: "-1" }, title), el("p", {}, text)),
  );
}

export const openId = () => current?.id;

/** Redraws `job` if it is open. */
export function draw(job) {
  if (job !== current) return;
  setText(elements.title, jobTitle(job));
  setText(elements.status, statusLabel(job.status));
  elements.status.dataset.state = job.status;
  setText(elements.percent, `${job.progress} %`);
  elements.overall.set(job.progress, job.status);
  setText(elements.progress, progressText(job));
  const error = isTerminal(job) && job.status !== "cancelled" ? job.error : undefined;
  elements.error.hidden = !error;
  setText(elements.error, error ?? "");
  elements.buttons.update(job);
  drawFacts(job);
  const cards = job.files.map((file, index) => {
    if (!elements.cards.has(file.id)) elements.cards.set(file.id, fileCard(job, file, index));
    const card = elements.cards.get(file.id);
    card.update(file);
    return card.node;
  });
  setChildren(elements.files, cards);
  elements.timeline.draw(job);
}

function progressText(job) {
  const failed = job.files.filter((file) => file.status === "failed").length;
  const finished = `${finishedCount(job)} of ${pluralize(job.files.length, "file")} finished${failed ? `, ${failed} failed` : ""}`;
  if (isTerminal(job)) return finished;
  if (job.status === "pending") {
    const ahead = job.queuePosition;
    return ahead > 0 ? `Waiting for a worker, ${pluralize(ahead, "task")} ahead` : "Waiting for a worker";
  }
  const remaining = job.eta === undefined ? undefined : `about ${duration(job.eta * 1000)} left`;
  return [finished, remaining].filter(Boolean).join(" · ");
}

function drawFacts(job) {
  const startedAt = job.startedAt ?? job.createdAt;
  const facts = [
    ["Job", el("code", {}, job.id)],
    ["Created", job.createdAt && timeElement(job.createdAt)],
    ["Duration", isTerminal(job) && job.endedAt && startedAt ? duration(job.endedAt - startedAt) : undefined],
    ["Attempt", job.attempt > 1 ? String(job.attempt) : undefined],
  ].filter(([, value]) => value);
  const renderedFacts = facts.map(([name, value]) => `${name} ${value.textContent ?? value}`).join();
  // Replaced only if the text changed, so that selected text stays selected.
  if (elements.facts.dataset.rendered === renderedFacts) return;
  elements.facts.dataset.rendered = renderedFacts;
  elements.facts.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

const timeElement = (ms) => el("time", { datetime: new Date(ms).toISOString(), title: dateTime(ms) }, age(ms));

/** Updates relative times. */
export function tick() {
  if (current) drawFacts(current);
}

/** Loads the webhook deliveries of a job. They are sent after it ends. */
export async function readWebhooks(id) {
  try {
    const { webhooks } = await getWebhooks(id);
    if (current?.id !== id) return;
    elements.webhooks.hidden = webhooks.length === 0;
    elements.webhooks.replaceChildren(el("h2", {}, "Webhooks"), webhookList(webhooks));
  } catch {
    // The job was deleted or the key may not read them: there is nothing to show.
  }
}

export const statusSummary = (job) => `Job ${shortId(job.id)}: ${statusLabel(job.status)}, ${finishedCount(job)} of ${job.files.length} files finished.`;
