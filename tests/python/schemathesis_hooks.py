"""Rules of the API that its document cannot express."""

from __future__ import annotations

import uuid

import schemathesis


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]
) -> None:
    """Makes each Idempotency-Key unique, because schemathesis sends different bodies with the same key."""
    if case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
