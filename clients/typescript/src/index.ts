// Creates image2model jobs, and follows them; for browsers and Node.

export type { components, operations, paths } from "./api.js";
export { type Code, GatewayError } from "./errors.js";
export { listen } from "./event-source.js";
export type { FollowOptions } from "./follow.js";
export { Gateway, type GatewayOptions, type ListOptions } from "./gateway.js";
export type { HoldOptions, LockOptions } from "./locks.js";
export * from "./models.js";
