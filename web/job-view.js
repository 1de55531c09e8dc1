// The page of one job: how it is, its files, its timeline, its webhooks.

import { buttonsFor } from "./actions.js";
import { getWebhooks } from "./api.js";
import { $, bar, el, setChildren, setText } from "./dom.js";
import { finishedFiles, isOver, shortId, titleOf, word } from "./job.js";
import { fileCard } from "./job-file.js";
import { Timeline } from "./timeline.js";
import { age, duration, moment, plural } from "./text.js";
import { webhookList } from "./webhooks.js";

let current;
let parts;

/** Replaces what is shown by `job`. `after` hears what was done with it. */
export function open(job, jobs, after) {
  current = job;
  const buttons = buttonsFor(job.id, jobs, after);
  parts = {
    title: el("h1", { tabindex: "-1" }),
    state: el("span", { class: "badge" }),
    percent: el("span", { class: "percent" }),
    now: el("p", { class: "now" }),
    facts: el("dl", { class: "facts" }),
    error: el("p", { class: "callout", hidden: true }),
    overall: bar("Whole job", "bar thick"),
    files: el("ul", { class: "files" }),
    cards: new Map(),
    timeline: new Timeline(),
    webhooks: el("section", { class: "card", "aria-label": "Webhooks", hidden: true }),
    buttons,
  };
  $("view-job").replaceChildren(
    el("nav", { class: "crumbs", "aria-label": "Way back" }, el("a", { href: "#" }, "← All jobs")),
    el(
      "header",
      { class: "card job-head" },
      el("div", { class: "job-title" }, parts.title, parts.state, el("div", { class: "job-actions" }, ...buttons.nodes)),
      el("div", { class: "overall" }, parts.percent, el("div", {}, parts.overall.node, parts.now)),
      parts.error,
      parts.facts,
    ),
    el(
      "div",
      { class: "job-columns" },
      el("section", { class: "card", "aria-labelledby": "files-title" }, el("h2", { id: "files-title" }, "Files"), parts.files),
      el("div", { class: "stack" }, parts.timeline.node, parts.webhooks),
    ),
  );
  draw(job);
  readWebhooks(job.id);
}

/** What is shown in place of a job that cannot be. */
export function openNothing(title, text) {
  current = undefined;
  parts = undefined;
  $("view-job").replaceChildren(
    el("nav", { class: "crumbs", "aria-label": "Way back" }, el("a", { href: "#" }, "← All jobs")),
    el("div", { class: "card empty" }, el("h1", { tabindex: "-1" }, title), el("p", {}, text)),
  );
}

export const openId = () => current?.id;

/** Shows the job as it is now. */
export function draw(job) {
  if (job !== current) return;
  setText(parts.title, titleOf(job));
  setText(parts.state, word(job.status));
  parts.state.dataset.state = job.status;
  setText(parts.percent, `${job.progress} %`);
  parts.overall.set(job.progress, job.status);
  setText(parts.now, nowOf(job));
  const error = isOver(job) && job.status !== "cancelled" ? job.error : undefined;
  parts.error.hidden = !error;
  setText(parts.error, error ?? "");
  parts.buttons.update(job);
  drawFacts(job);
  const cards = job.files.map((file, index) => {
    if (!parts.cards.has(file.id)) parts.cards.set(file.id, fileCard(job, file, index));
    const card = parts.cards.get(file.id);
    card.update(file);
    return card.node;
  });
  setChildren(parts.files, cards);
  parts.timeline.draw(job);
}

function nowOf(job) {
  const failed = job.files.filter((it) => it.status === "failed").length;
  const counted = `${finishedFiles(job)} of ${plural(job.files.length, "file")} finished${failed ? `, ${failed} failed` : ""}`;
  if (isOver(job)) return counted;
  if (job.status === "pending") {
    const ahead = job.queuePosition;
    return ahead > 0 ? `Waiting for a worker, ${plural(ahead, "task")} ahead` : "Waiting for a worker";
  }
  const left = job.eta === undefined ? undefined : `about ${duration(job.eta * 1000)} left`;
  return [counted, left].filter(Boolean).join(" · ");
}

function drawFacts(job) {
  const begun = job.startedAt ?? job.createdAt;
  const facts = [
    ["Job", el("code", {}, job.id)],
    ["Created", job.createdAt && time(job.createdAt)],
    ["Took", isOver(job) && job.endedAt && begun ? duration(job.endedAt - begun) : undefined],
    ["Attempt", job.attempt > 1 ? String(job.attempt) : undefined],
  ].filter(([, value]) => value);
  const drawn = facts.map(([name, value]) => `${name} ${value.textContent ?? value}`).join();
  // Drawn again only if it says something else: what is selected there stays so.
  if (parts.facts.dataset.drawn === drawn) return;
  parts.facts.dataset.drawn = drawn;
  parts.facts.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

const time = (ms) => el("time", { datetime: new Date(ms).toISOString(), title: moment(ms) }, age(ms));

/** What changes with time alone. */
export function tick() {
  if (current) drawFacts(current);
}

/** They follow the end of a job. */
export async function readWebhooks(id) {
  try {
    const { webhooks } = await getWebhooks(id);
    if (current?.id !== id) return;
    parts.webhooks.hidden = webhooks.length === 0;
    parts.webhooks.replaceChildren(el("h2", {}, "Webhooks"), webhookList(webhooks));
  } catch {
    // Of a job that is gone, or for a key that may not see them: there is nothing to show.
  }
}

export const describe = (job) => `Job ${shortId(job.id)}: ${word(job.status)}, ${finishedFiles(job)} of ${job.files.length} files finished.`;
