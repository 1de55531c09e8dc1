"""What schemathesis cannot know of the API."""

from __future__ import annotations

import uuid

import schemathesis


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]
) -> None:
    """An Idempotency-Key is good for one request, and two made-up bodies would come with the same."""
    if case.headers and case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
