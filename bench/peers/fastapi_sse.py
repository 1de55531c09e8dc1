"""A typical Python service for progress over SSE: one XREAD per browser, on a separate connection."""

import json
import os

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from redis.asyncio import Redis

# The default limit of the pool is a hundred connections.
redis = Redis.from_url(
    os.environ["REDIS_URL"], decode_responses=True, protocol=2, max_connections=20_000
)
app = FastAPI()


def frame(job_id: str, entry_id: str, fields: dict[str, str]) -> str:
    data = {
        "status": fields["status"],
        "progress": int(fields["overall"]),
        "current": int(fields["completed"]),
        "total": int(fields["total"]),
        "total_files": int(fields["total"]),
        "message": fields["message"],
        "job_id": job_id,
        "task_id": job_id,
        "timestamp": int(entry_id.split("-")[0]),
    }
    return f"id: {entry_id}\nevent: {fields['event']}\ndata: {json.dumps(data)}\n\n"


@app.get("/jobs/{job_id}/stream")
async def stream(job_id: str, request: Request) -> StreamingResponse:
    async def events():
        last = request.headers.get("last-event-id", "$")
        yield "retry: 2000\n\n"
        while True:
            reply = await redis.xread({f"stream:progress:{job_id}": last}, block=15_000)
            if not reply:
                yield ": keep-alive\n\n"
                continue
            for last, fields in reply[0][1]:
                yield frame(job_id, last, fields)

    return StreamingResponse(events(), media_type="text/event-stream")
