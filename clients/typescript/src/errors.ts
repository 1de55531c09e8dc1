// What the gateway refuses, by the code that its answers carry.

import type { Problem } from "./models.js";

/** The codes of the API, and two of this client's own: no answer, and an answer that is not the gateway's. */
export type Code = Problem["error_code"] | "UNREACHABLE" | "UNKNOWN";

/** The gateway refused, or could not be reached. `code` is for programs, `message` for people. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";

  constructor(
    message: string,
    readonly code: Code,
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
  static async of(answer: Response): Promise<GatewayError> {
    const problem = (await answer.json().catch(() => ({}))) as Partial<Problem>;
    return new GatewayError(
      problem.detail ?? `the answer was ${answer.status} ${answer.statusText}`,
      problem.error_code ?? "UNKNOWN",
      answer.status,
      answer.headers.get("x-request-id") ?? undefined,
      problem.details as Record<string, unknown> | undefined,
      retryAfterOf(answer),
    );
  }

  static unreachable(cause: unknown): GatewayError {
    return new GatewayError(`the gateway does not answer: ${cause}`, "UNREACHABLE", undefined, undefined, {}, undefined, {
      cause,
    });
  }
}

function retryAfterOf(answer: Response): number | undefined {
  const seconds = Number(answer.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
