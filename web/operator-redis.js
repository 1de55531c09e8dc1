// What /health says, for people.

import { badge, bar, el } from "./dom.js";
import { facts, nothing, table } from "./table.js";
import { duration, number } from "./text.js";

const COLOURS = { healthy: "completed", degraded: "partial", unhealthy: "failed", ok: "completed", lagging: "partial" };

const coloured = (status) => badge(COLOURS[status] ?? "failed", status);
const ms = (value) => (value === undefined ? "–" : `${value.toFixed(value < 10 ? 2 : 0)} ms`);
const mib = (value) => (value === undefined ? "–" : `${value.toFixed(value < 100 ? 1 : 0)} MiB`);

/** The servers with what each says of itself: one, or the shards of a cluster. Which cannot be asked, says nothing. */
const serversOf = ({ checks }) => Object.entries(checks.shards ?? { Redis: checks }).map(([name, it]) => [name.replace("_", " "), it]);

export function overview(report) {
  const { checks } = report;
  const servers = serversOf(report).map(([, it]) => it);
  const told = servers.filter((it) => it.server);
  const sum = (name) => (told.length > 0 ? number(told.reduce((total, it) => total + it.clients[name], 0)) : undefined);
  const worst = (name) => told.map((it) => it.persistence[name]).sort((a, b) => (a === "ok") - (b === "ok"))[0];
  const nodes = [
    el("p", { class: "verdict" }, coloured(report.status), `${report.service} ${report.version}, up ${duration(report.uptime_seconds * 1000)}`),
    facts([
      ["Redis", told[0] && `${told[0].server.redis_version}, up ${duration(Math.min(...told.map((it) => it.server.uptime_in_seconds)) * 1000)}`],
      ["Servers", servers.length > 1 ? number(servers.length) : undefined],
      ["Slowest answer", ms(checks.ping.response_time_ms)],
      ["Writes", coloured(checks.writes.status)],
      ["Clients", sum("connected_clients")],
      ["Blocked", sum("blocked_clients")],
      ["Rejected", sum("rejected_connections")],
      ["Last snapshot", told[0] && coloured(worst("rdb_last_bgsave_status"))],
      ["Append-only file", told[0] && (told[0].persistence.aof_enabled ? coloured(worst("aof_last_write_status")) : "off")],
    ]),
  ];
  if (report.problems.length > 0) {
    nodes.splice(1, 0, el("ul", { class: "callout" }, ...report.problems.map((it) => el("li", {}, it))));
  }
  return nodes;
}

export function memory(report) {
  const servers = serversOf(report).filter(([, it]) => it.memory);
  if (servers.length === 0) return [nothing("Redis does not say.")];
  if (servers.length === 1) return memoryOf(servers[0][1].memory);
  const rows = servers.map(([name, { memory: it }]) => [
    name,
    mib(it.used_memory_mb),
    it.maxmemory_mb > 0 ? mib(it.maxmemory_mb) : "none",
    number(it.evicted_keys),
  ]);
  return [table("Memory of each shard", ["Shard", "#Used", "#Limit", "#Evicted"], rows)];
}

function memoryOf(memory) {
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

export function replication(report) {
  const servers = serversOf(report).filter(([, it]) => it.topology);
  if (servers.length === 0) return [nothing("Redis does not say.")];
  const members = servers.flatMap(([name, { topology }]) => topology.members.map((it) => [name, it]));
  const isSharded = servers.length > 1;
  const rows = members.map(([name, it]) => [
    ...(isSharded ? [name] : []),
    it.is_ours && !isSharded ? `${it.role} (in use)` : it.role,
    coloured(it.status),
    it.lag_seconds === undefined ? "–" : `${it.lag_seconds} s`,
    it.behind_bytes === undefined ? "–" : number(it.behind_bytes),
  ]);
  const columns = [...(isSharded ? ["Shard"] : []), "Role", "State", "#Lag", "#Bytes behind"];
  const lonely = members.some(([, it]) => it.role === "replica") ? [] : [nothing("No replicas: what this Redis loses is lost.")];
  return [facts([["Mode", servers[0][1].topology.mode]]), table("Members", columns, rows), ...lonely];
}

export function databases({ checks }) {
  const all = Object.entries(checks.databases).sort(([, a], [, b]) => a.database - b.database);
  const rows = all.map(([name, it]) => [
    checks.shards ? name.replace("_", " ") : `${it.database} ${name.replaceAll("_", " ")}`,
    coloured(it.status === "ok" ? it.writes : it.status),
    ms(it.response_time_ms),
    it.keys === undefined ? "–" : number(it.keys),
    it.keys === undefined ? "–" : number(it.keys - it.keys_with_ttl),
  ]);
  return [table("Databases", ["Database", "State", "#Answer", "#Keys", "#Without end"], rows)];
}
