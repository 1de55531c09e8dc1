// Panels for queues, event streams, rate limits and slow queries.

import { badge, el, progressBar } from "./dom.js";
import { dateTime, duration, number, pluralize } from "./format.js";
import { shortId } from "./job.js";
import { emptyNote, facts, table } from "./table.js";

const seconds = (value) => (value === undefined ? "–" : duration(value * 1000));

export function queues({ enabled, queues, workers, stalled_tasks: stalled, result_messages: results }) {
  if (!enabled) return [emptyNote("Celery is disabled: workers get jobs elsewhere and report over HTTP.")];
  const rows = queues.map((queue) => [queue.queue, number(queue.depth), number(queue.in_flight), seconds(queue.oldest_age_seconds), seconds(queue.oldest_in_flight_seconds)]);
  const nodes = [table("Queues", ["Queue", "#Waiting", "#In flight", "#Oldest waiting", "#Oldest in flight"], rows)];
  if (stalled.length > 0) {
    nodes.push(el("p", { class: "callout" }, `${pluralize(stalled.length, "task")} without a heartbeat: ${stalled.slice(0, 5).join(", ")}`));
  }
  if (workers.length === 0) nodes.push(emptyNote("No worker heartbeat in the last minute."));
  else nodes.push(table("Workers", ["Worker", "#Last heartbeat"], workers.map((worker) => [worker.name, `${worker.last_heartbeat_seconds} s ago`])));
  if (results) nodes.push(facts(Object.entries(results).map(([name, count]) => [`Results ${name.replaceAll("_", " ")}`, number(count)])));
  return nodes;
}

export function streams({ open, jobs }) {
  const nodes = [el("p", { class: "figure" }, number(open), el("small", {}, " open in this process"))];
  if (jobs.length === 0) return [...nodes, emptyNote("No job has subscribers.")];
  const rows = jobs.slice(0, 10).map((job) => [el("code", { title: job.job_id }, shortId(job.job_id)), number(job.subscribers)]);
  return [...nodes, table("Jobs with subscribers", ["Job", "#Subscribers"], rows)];
}

export function rateLimits({ enabled, shadow, seconds: spanSeconds, policies }) {
  const state = !enabled ? badge("failed", "off") : shadow ? badge("partial", "dry run") : badge("completed", "enforced");
  const head = el("p", { class: "status-line" }, state, `Clients of this process in the last ${duration(spanSeconds * 1000)}`);
  return [head, el("div", { class: "policies" }, ...policies.map(policySection))];
}

function policySection(policy) {
  const { policy: name, scope, limit, window_secs: window, cost, algorithm, busiest } = policy;
  const subject = scope.startsWith("key") ? "API key" : "IP address";
  const unit = cost === "file" ? "files" : "requests";
  const rule = `${number(limit)} ${unit} per ${subject} in ${duration(window * 1000)} · ${algorithm.replaceAll("_", " ")} · if Redis fails: ${policy.on_redis_failure}`;
  const max = Math.max(1, ...busiest.map((caller) => caller.admitted + caller.refused));
  const list = busiest.map((caller) => callerRow(caller, max, unit));
  return el(
    "section",
    { class: "policy" },
    el("h3", {}, name, el("small", {}, rule)),
    busiest.length === 0 ? emptyNote("No requests yet.") : el("ol", { class: "callers" }, ...list),
  );
}

function callerRow({ caller, key_hash: hash, admitted, refused, uncertain }, max, unit) {
  const share = progressBar(`Share of ${caller}`, "bar thin");
  const total = admitted + refused;
  const text = [`${number(admitted)} ${unit}`, refused > 0 && `${number(refused)} rejected`, uncertain > 0 && `±${number(uncertain)}`];
  share.set((total / max) * 100, refused > 0 ? "failed" : "processing", text.filter(Boolean).join(", "));
  const name = hash && hash !== caller ? el("span", { class: "name" }, caller, el("code", {}, ` ${hash}…`)) : el("span", { class: "name" }, hash ? `${caller}…` : caller);
  return el("li", {}, name, el("span", { class: "counts", "data-refused": refused > 0 }, text.filter(Boolean).join(" · ")), share.node);
}

export function slowQueries({ slow_queries: queries }) {
  if (queries.length === 0) return [emptyNote("None: no command took longer than slowlog-log-slower-than.")];
  const rows = queries.map((query) => [
    query.start_time ? dateTime(Date.parse(query.start_time)) : "–",
    `${number(query.duration_microseconds / 1000)} ms`,
    el("code", {}, query.command),
    query.client_name || query.client,
  ]);
  return [table("Slow queries", ["Time", "#Duration", "Command", "Client"], rows)];
}
