// What /health says, for people.

import { badge, bar, el } from "./dom.js";
import { facts, nothing, table } from "./table.js";
import { duration, number } from "./text.js";

const COLOURS = { healthy: "completed", degraded: "partial", unhealthy: "failed", ok: "completed", lagging: "partial" };

const coloured = (status) => badge(COLOURS[status] ?? "failed", status);
const ms = (value) => (value === undefined ? "–" : `${value.toFixed(value < 10 ? 2 : 0)} ms`);
const mib = (value) => (value === undefined ? "–" : `${value.toFixed(value < 100 ? 1 : 0)} MiB`);

export function overview(report) {
  const { checks } = report;
  const nodes = [
    el("p", { class: "verdict" }, coloured(report.status), `${report.service} ${report.version}, up ${duration(report.uptime_seconds * 1000)}`),
    facts([
      ["Redis", checks.server && `${checks.server.redis_version}, up ${duration(checks.server.uptime_in_seconds * 1000)}`],
      ["Slowest answer", ms(checks.ping.response_time_ms)],
      ["Writes", coloured(checks.writes.status)],
      ["Clients", checks.clients && number(checks.clients.connected_clients)],
      ["Blocked", checks.clients && number(checks.clients.blocked_clients)],
      ["Rejected", checks.clients && number(checks.clients.rejected_connections)],
      ["Last snapshot", checks.persistence && coloured(checks.persistence.rdb_last_bgsave_status)],
      ["Append-only file", checks.persistence && (checks.persistence.aof_enabled ? coloured(checks.persistence.aof_last_write_status) : "off")],
    ]),
  ];
  if (report.problems.length > 0) {
    nodes.splice(1, 0, el("ul", { class: "callout" }, ...report.problems.map((it) => el("li", {}, it))));
  }
  return nodes;
}

export function memory({ checks: { memory } }) {
  if (!memory) return [nothing("Redis does not say.")];
  const limit = memory.maxmemory_mb;
  const used = bar("Memory in use", "bar");
  const percent = limit > 0 ? (memory.used_memory_mb / limit) * 100 : 0;
  used.set(Math.min(100, percent), percent > 90 ? "failed" : percent > 75 ? "partial" : "completed", `${mib(memory.used_memory_mb)} of ${mib(limit)}`);
  return [
    el("p", { class: "figure" }, mib(memory.used_memory_mb), el("small", {}, limit > 0 ? ` of ${mib(limit)}` : " of no limit")),
    ...(limit > 0 ? [used.node] : []),
    facts([
      ["Peak", mib(memory.used_memory_peak_mb)],
      ["Resident", mib(memory.used_memory_rss_mb)],
      ["Fragmentation", memory.mem_fragmentation_ratio.toFixed(2)],
      ["When full", memory.maxmemory_policy],
      ["Evicted keys", number(memory.evicted_keys)],
    ]),
  ];
}

export function replication({ checks: { topology } }) {
  if (!topology) return [nothing("Redis does not say.")];
  const rows = topology.members.map((it) => [
    it.is_ours ? `${it.role} (in use)` : it.role,
    coloured(it.status),
    it.lag_seconds === undefined ? "–" : `${it.lag_seconds} s`,
    it.behind_bytes === undefined ? "–" : number(it.behind_bytes),
  ]);
  const lonely = topology.members.length === 1 ? [nothing("No replicas: what this Redis loses is lost.")] : [];
  return [facts([["Mode", topology.mode]]), table("Members", ["Role", "State", "#Lag", "#Bytes behind"], rows), ...lonely];
}

export function databases({ checks: { databases } }) {
  const all = Object.entries(databases).sort(([, a], [, b]) => a.database - b.database);
  const rows = all.map(([name, it]) => [
    `${it.database} ${name.replaceAll("_", " ")}`,
    coloured(it.status === "ok" ? it.writes : it.status),
    ms(it.response_time_ms),
    it.keys === undefined ? "–" : number(it.keys),
    it.keys === undefined ? "–" : number(it.keys - it.keys_with_ttl),
  ]);
  return [table("Databases", ["Database", "State", "#Answer", "#Keys", "#Without end"], rows)];
}
