// Errors by the `error_code` of the gateway's problem responses.

import type { Problem } from "./models.js";

/** The codes of the API, and two of this client: no response, and a response without an error code. */
export type ErrorCode = Problem["error_code"] | "UNREACHABLE" | "UNKNOWN";

/** The gateway returned an error or is unreachable. `code` is for programs, `message` for humans. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";

  constructor(
    message: string,
    readonly code: ErrorCode,
    readonly status?: number,
    readonly requestId?: string,
    readonly details: Record<string, unknown> = {},
    /** Seconds. */
    readonly retryAfter?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Converts an error response, whose body has not been read. */
  static async fromResponse(response: Response): Promise<GatewayError> {
    const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
    return new GatewayError(
      problem.detail ?? `unexpected response: ${response.status} ${response.statusText}`,
      problem.error_code ?? "UNKNOWN",
      response.status,
      response.headers.get("x-request-id") ?? undefined,
      problem.details as Record<string, unknown> | undefined,
      parseRetryAfter(response),
    );
  }

  static unreachable(cause: unknown): GatewayError {
    const message = `the gateway is unreachable: ${cause}`;
    return new GatewayError(message, "UNREACHABLE", undefined, undefined, {}, undefined, { cause });
  }
}

function parseRetryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
