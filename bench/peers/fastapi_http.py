"""Jobs over HTTP as people write them in Python: the same keys, a limiter script, redis-py's asyncio client."""

import hashlib
import json
import os
import time
import uuid
from datetime import datetime, timezone

from fastapi import Depends, FastAPI, Header, HTTPException
from redis.asyncio import Redis

LIMIT = int(os.environ.get("LIMIT", "0"))  # 0: no limits
WINDOW = 3600
TTL = 86_400
COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return count
"""

jobs = Redis.from_url(os.environ["REDIS_URL"] + "/1", decode_responses=True, protocol=2, max_connections=200)
limits = Redis.from_url(os.environ["REDIS_URL"] + "/3", decode_responses=True, protocol=2, max_connections=200)
count = limits.register_script(COUNT)
app = FastAPI()


async def caller(authorization: str = Header()) -> str:
    key_hash = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    if LIMIT and await count(keys=[f"rl:key:{key_hash}"], args=[WINDOW]) > LIMIT:
        raise HTTPException(429, "too many requests", {"Retry-After": "60"})
    return key_hash


@app.post("/api/v1/jobs", status_code=201)
async def create(new: dict, owner: str = Depends(caller)) -> dict:
    job_id = str(uuid.uuid4())
    now = datetime.now(timezone.utc).replace(tzinfo=None).isoformat()
    record = {
        "job_id": job_id,
        "api_key_hash": owner,
        "status": "pending",
        "total_files": len(new["files"]),
        "completed_files": 0,
        "failed_files": 0,
        "created_at": now,
        "updated_at": now,
    }
    pipe = jobs.pipeline()
    pipe.hset(f"job:{job_id}", mapping=record)
    pipe.expire(f"job:{job_id}", TTL)
    for file in new["files"]:
        pipe.rpush(f"job:{job_id}:files", json.dumps(file))
    pipe.expire(f"job:{job_id}:files", TTL)
    pipe.setex(f"session:{job_id}", TTL, owner)
    pipe.sadd(f"user_jobs:{owner}", job_id)
    pipe.expire(f"user_jobs:{owner}", TTL)
    await pipe.execute()
    return record


@app.get("/api/v1/jobs/{job_id}")
async def show(job_id: str, owner: str = Depends(caller)) -> dict:
    job = await jobs.hgetall(f"job:{job_id}")
    if not job or job["api_key_hash"] != owner:
        raise HTTPException(404, "no such job")
    files = await jobs.lrange(f"job:{job_id}:files", 0, -1)
    return {**job, "files": [json.loads(it) for it in files], "read_at": time.time()}
