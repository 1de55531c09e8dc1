"""A typical Python service for jobs over HTTP, with the Redis commands of the seed.

Each request runs the commands of the seed's `JobStore`, `ProgressTracker`, `RateLimiter` and `RedisCache`, in the same
order and one after the other. Only the pool is larger: the seed's pool of 50 connections refuses the 51st client.
"""

import hashlib
import json
import os
import time
import uuid
from datetime import datetime

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis

LIMIT = int(os.environ.get("LIMIT", "0"))  # 0: no limits
WINDOW = 3600
TTL = 86_400
STATUS_TTL = 10
CHECK = """
local key = KEYS[1]
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local current_time = tonumber(ARGV[3])

-- Get current count
local current = redis.call('GET', key)
current = tonumber(current) or 0

-- Check if we should reset
local ttl = redis.call('TTL', key)

if ttl == -2 or ttl == -1 then
    -- Key doesn't exist or no expiry
    current = 0
end

-- Increment counter
current = current + 1

-- Check limit
if current > limit then
    return {0, current, ttl}  -- Denied
end

-- Update counter
if current == 1 then
    -- First request in window
    redis.call('SET', key, current)
    redis.call('EXPIRE', key, window)
    ttl = window
else
    -- Increment existing
    redis.call('SET', key, current)
end

return {1, current, ttl}  -- Allowed
"""


class NewFile(BaseModel):
    filename: str
    size: int | None = None
    content_type: str | None = None


class NewJob(BaseModel):
    files: list[NewFile]


class FileReport(BaseModel):
    progress: int
    message: str | None = None


class Report(FileReport):
    file_id: str


class Batch(BaseModel):
    files: list[Report]


def client(database: int) -> Redis:
    return Redis.from_url(
        f"{os.environ['REDIS_URL']}/{database}",
        decode_responses=True,
        protocol=2,
        max_connections=512,
        socket_keepalive=True,
        health_check_interval=30,
        socket_connect_timeout=5,
        socket_timeout=5,
    )


jobs, tracker, limits, cache = client(1), client(2), client(3), client(4)
app = FastAPI()


async def caller(authorization: str = Header()) -> str:
    key_hash = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    if LIMIT:
        key = f"rl:key:{key_hash}"
        allowed, _, ttl = await limits.eval(CHECK, 1, key, LIMIT, WINDOW, int(time.time()))
        if not allowed:
            raise HTTPException(429, "too many requests", {"Retry-After": str(max(ttl, 1))})
    return key_hash


def now() -> str:
    return datetime.utcnow().isoformat()


async def get_job(job_id: str, owner: str) -> dict:
    job = await jobs.hgetall(f"job:{job_id}")
    if not job or job["api_key_hash"] != owner:
        raise HTTPException(404, "job not found")
    files = await jobs.lrange(f"job:{job_id}:files", 0, -1)
    job["files"] = [json.loads(file) for file in files]
    return job


async def update_progress(job_id: str, file_id: str, report: FileReport) -> None:
    await tracker.set(f"progress:{job_id}:{file_id}", str(report.progress))
    event = {"file_id": file_id, "progress": report.progress, "timestamp": now()}
    if report.message:
        event["message"] = report.message
    await tracker.xadd(f"stream:progress:{job_id}", event, maxlen=1000)


@app.get("/livez")
async def livez() -> dict:
    return {"status": "ok"}


@app.post("/api/v1/jobs", status_code=201)
async def create(new: NewJob, owner: str = Depends(caller)) -> dict:
    job_id = str(uuid.uuid4())
    record = {
        "job_id": job_id,
        "api_key_hash": owner,
        "status": "pending",
        "total_files": len(new.files),
        "completed_files": 0,
        "failed_files": 0,
        "created_at": now(),
        "updated_at": now(),
    }
    pipe = jobs.pipeline()
    pipe.hset(f"job:{job_id}", mapping=record)
    pipe.expire(f"job:{job_id}", TTL)
    for file in new.files:
        pipe.rpush(f"job:{job_id}:files", json.dumps(file.model_dump(exclude_none=True)))
    pipe.expire(f"job:{job_id}:files", TTL)
    pipe.setex(f"session:{job_id}", TTL, owner)
    pipe.sadd(f"user_jobs:{owner}", job_id)
    pipe.expire(f"user_jobs:{owner}", TTL)
    await pipe.execute()
    pipe = tracker.pipeline()
    for index in range(len(new.files)):
        pipe.setex(f"progress:{job_id}:file_{index:03d}", TTL, "0")
    await pipe.execute()
    return record


@app.get("/api/v1/jobs/{job_id}")
async def show(job_id: str, owner: str = Depends(caller)) -> dict:
    return await get_job(job_id, owner)


@app.get("/api/v1/jobs/{job_id}/status")
async def status(job_id: str, owner: str = Depends(caller)) -> dict:
    key = f"cache:status:{job_id}"
    cached = await cache.get(key)
    if cached is not None:
        return json.loads(cached)
    job = await get_job(job_id, owner)
    value = {name: job[name] for name in ("job_id", "status", "total_files", "completed_files", "failed_files", "updated_at")}
    await cache.setex(key, STATUS_TTL, json.dumps(value))
    return value


@app.get("/api/v1/jobs/{job_id}/progress", dependencies=[Depends(caller)])
async def progress(job_id: str) -> dict:
    found, cursor = {}, 0
    while True:
        cursor, keys = await tracker.scan(cursor, match=f"progress:{job_id}:*", count=100)
        if keys:
            values = await tracker.mget(keys)
            for key, value in zip(keys, values):
                found[key.split(":")[-1]] = int(value or 0)
        if cursor == 0:
            break
    return found


@app.post("/api/v1/jobs/{job_id}/files/{file_id}/progress", dependencies=[Depends(caller)])
async def report_file(job_id: str, file_id: str, report: FileReport) -> dict:
    await update_progress(job_id, file_id, report)
    return {"recorded": 1}


@app.post("/api/v1/jobs/{job_id}/progress", dependencies=[Depends(caller)])
async def report_batch(job_id: str, batch: Batch) -> dict:
    for report in batch.files:
        await update_progress(job_id, report.file_id, report)
    return {"recorded": len(batch.files)}
