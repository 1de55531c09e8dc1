// Panels that show the /health report.

import { badge, el, progressBar } from "./dom.js";
import { duration, number } from "./format.js";
import { emptyNote, facts, table } from "./table.js";

const STATUS_COLOURS = { healthy: "completed", degraded: "partial", unhealthy: "failed", ok: "completed", lagging: "partial" };

const statusBadge = (status) => badge(STATUS_COLOURS[status] ?? "failed", status);
const ms = (value) => (value === undefined ? "–" : `${value.toFixed(value < 10 ? 2 : 0)} ms`);
const mib = (value) => (value === undefined ? "–" : `${value.toFixed(value < 100 ? 1 : 0)} MiB`);

/** Pairs of name and checks: one server, or the shards of a cluster. Checks of an unreachable server have no data. */
const namedServers = ({ checks }) => Object.entries(checks.shards ?? { Redis: checks }).map(([name, server]) => [name.replace("_", " "), server]);

export function overview(report) {
  const { checks } = report;
  const servers = namedServers(report).map(([, server]) => server);
  const reporting = servers.filter((server) => server.server);
  const sum = (name) => (reporting.length > 0 ? number(reporting.reduce((total, server) => total + server.clients[name], 0)) : undefined);
  const worst = (name) => reporting.map((server) => server.persistence[name]).sort((a, b) => (a === "ok") - (b === "ok"))[0];
  const nodes = [
    el("p", { class: "status-line" }, statusBadge(report.status), `${report.service} ${report.version}, up ${duration(report.uptime_seconds * 1000)}`),
    facts([
      ["Redis", reporting[0] && `${reporting[0].server.redis_version}, up ${duration(Math.min(...reporting.map((server) => server.server.uptime_in_seconds)) * 1000)}`],
      ["Servers", servers.length > 1 ? number(servers.length) : undefined],
      ["Max ping latency", ms(checks.ping.response_time_ms)],
      ["Writes", statusBadge(checks.writes.status)],
      ["Connected clients", sum("connected_clients")],
      ["Blocked clients", sum("blocked_clients")],
      ["Rejected connections", sum("rejected_connections")],
      ["Last snapshot", reporting[0] && statusBadge(worst("rdb_last_bgsave_status"))],
      ["Append-only file", reporting[0] && (reporting[0].persistence.aof_enabled ? statusBadge(worst("aof_last_write_status")) : "off")],
    ]),
  ];
  if (report.problems.length > 0) {
    nodes.splice(1, 0, el("ul", { class: "callout" }, ...report.problems.map((problem) => el("li", {}, problem))));
  }
  return nodes;
}

export function memory(report) {
  const servers = namedServers(report).filter(([, server]) => server.memory);
  if (servers.length === 0) return [emptyNote("Redis returned no memory data.")];
  if (servers.length === 1) return memoryOf(servers[0][1].memory);
  const rows = servers.map(([name, { memory }]) => [
    name,
    mib(memory.used_memory_mb),
    memory.maxmemory_mb > 0 ? mib(memory.maxmemory_mb) : "none",
    number(memory.evicted_keys),
  ]);
  return [table("Memory of each shard", ["Shard", "#Used", "#Limit", "#Evicted"], rows)];
}

function memoryOf(memory) {
  const limit = memory.maxmemory_mb;
  const used = progressBar("Memory in use", "bar");
  const percent = limit > 0 ? (memory.used_memory_mb / limit) * 100 : 0;
  used.set(Math.min(100, percent), percent > 90 ? "failed" : percent > 75 ? "partial" : "completed", `${mib(memory.used_memory_mb)} of ${mib(limit)}`);
  return [
    el("p", { class: "figure" }, mib(memory.used_memory_mb), el("small", {}, limit > 0 ? ` of ${mib(limit)}` : " (no limit)")),
    ...(limit > 0 ? [used.node] : []),
    facts([
      ["Peak usage", mib(memory.used_memory_peak_mb)],
      ["Resident memory", mib(memory.used_memory_rss_mb)],
      ["Fragmentation", memory.mem_fragmentation_ratio.toFixed(2)],
      ["Eviction policy", memory.maxmemory_policy],
      ["Evicted keys", number(memory.evicted_keys)],
    ]),
  ];
}

export function replication(report) {
  const servers = namedServers(report).filter(([, server]) => server.topology);
  if (servers.length === 0) return [emptyNote("Redis returned no replication data.")];
  const members = servers.flatMap(([name, { topology }]) => topology.members.map((member) => [name, member]));
  const isSharded = servers.length > 1;
  const rows = members.map(([name, member]) => [
    ...(isSharded ? [name] : []),
    member.is_ours && !isSharded ? `${member.role} (in use)` : member.role,
    statusBadge(member.status),
    member.lag_seconds === undefined ? "–" : `${member.lag_seconds} s`,
    member.behind_bytes === undefined ? "–" : number(member.behind_bytes),
  ]);
  const columns = [...(isSharded ? ["Shard"] : []), "Role", "Status", "#Lag", "#Bytes behind"];
  const warning = members.some(([, member]) => member.role === "replica") ? [] : [emptyNote("No replicas: no other server has a copy of the data.")];
  return [facts([["Mode", servers[0][1].topology.mode]]), table("Members", columns, rows), ...warning];
}

export function databases({ checks }) {
  const all = Object.entries(checks.databases).sort(([, a], [, b]) => a.database - b.database);
  const rows = all.map(([name, database]) => [
    checks.shards ? name.replace("_", " ") : `${database.database} ${name.replaceAll("_", " ")}`,
    statusBadge(database.status === "ok" ? database.writes : database.status),
    ms(database.response_time_ms),
    database.keys === undefined ? "–" : number(database.keys),
    database.keys === undefined ? "–" : number(database.keys - database.keys_with_ttl),
  ]);
  return [table("Databases", ["Database", "Status", "#Latency", "#Keys", "#No TTL"], rows)];
}
