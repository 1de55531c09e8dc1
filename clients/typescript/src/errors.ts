// What the gateway refuses, by the code that its answers carry.

import type { Problem } from "./models.js";

/** The codes of the API, and two of this client's own: no answer, and an answer that is not the gateway's. */
export type ErrorCode = Problem["error_code"] | "UNREACHABLE" | "UNKNOWN";

/** The gateway refused, or could not be reached. `code` is for programs, `message` for people. */
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

  /** The error that an answer tells of. */
  static async fromResponse(response: Response): Promise<GatewayError> {
    const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
    return new GatewayError(
      problem.detail ?? `the answer was ${response.status} ${response.statusText}`,
      problem.error_code ?? "UNKNOWN",
      response.status,
      response.headers.get("x-request-id") ?? undefined,
      problem.details as Record<string, unknown> | undefined,
      parseRetryAfter(response),
    );
  }

  static unreachable(cause: unknown): GatewayError {
    return new GatewayError(`the gateway does not answer: ${cause}`, "UNREACHABLE", undefined, undefined, {}, undefined, {
      cause,
    });
  }
}

function parseRetryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
