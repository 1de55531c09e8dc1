// Client for image2model-gateway, for browsers and Node.

export type { components, operations, paths } from "./api.js";
export { GatewayClient, type GatewayClientOptions, type ListOptions } from "./client.js";
export { type ErrorCode, GatewayError } from "./errors.js";
export { listenWithEventSource } from "./event-source.js";
export type { FollowOptions } from "./follow.js";
export type { LockOptions, WithLockOptions } from "./locks.js";
export * from "./models.js";
