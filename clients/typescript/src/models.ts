// Short names for the request and response bodies in the generated types.

import type { components } from "./api.js";

type Schemas = components["schemas"];

export type Job = Schemas["Job"];
export type JobFile = Schemas["JobFile"];
export type JobPage = Schemas["JobPage"];
export type JobProgress = Schemas["JobProgress"];
export type JobSummary = Schemas["JobSummary"];
export type JobStatus = Schemas["JobStatus"];
export type NewFile = Schemas["NewFile"];
export type Downloads = Schemas["Downloads"];
export type Invalidated = Schemas["CacheInvalidated"];
export type Invalidation = Schemas["CacheInvalidation"];
export type Lock = Schemas["Lock"];
export type NewModel = Schemas["NewModel"];
export type StoredModel = Schemas["StoredModel"];
export type Problem = Schemas["Problem"];
export type RateLimits = Schemas["RateLimits"];
export type Status = Schemas["Status"];
export type Ticket = Schemas["Ticket"];

/** The data of each event by its name. */
export interface EventData {
  task_queued: Schemas["StreamQueued"];
  task_progress: Schemas["StreamProgress"];
  file_update: Schemas["StreamFileUpdate"];
  task_completed: Schemas["StreamCompleted"];
  task_failed: Schemas["StreamFailed"];
  task_cancelled: Schemas["StreamCancelled"];
  resync: Schemas["JobProgress"];
}

/** An event of a stream. `name` determines the type of `data`. */
export type GatewayEvent = {
  [Name in keyof EventData]: { name: Name; data: EventData[Name]; id?: string };
}[keyof EventData];

/** Whether this is the last event of its job. */
export function isLast(event: GatewayEvent): boolean {
  return event.name === "task_completed" || event.name === "task_failed";
}
