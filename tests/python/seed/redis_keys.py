"""The seed's RedisKeys, unchanged."""


class RedisKeys:
    """Centralized key management"""

    # Job keys
    JOB_DATA = "job:{job_id}"                          # Hash: job metadata
    JOB_STATUS = "job:{job_id}:status"                 # String: job status
    JOB_FILES = "job:{job_id}:files"                   # List: file IDs
    JOB_RESULT = "job:{job_id}:file:{file_id}"         # String: file result

    # Session keys
    SESSION_OWNER = "session:{job_id}"                 # String: API key hash
    USER_JOBS = "user_jobs:{api_key_hash}"            # Set: job IDs

    # Progress keys
    PROGRESS_FILE = "progress:{job_id}:{file_id}"      # String: progress %
    PROGRESS_STREAM = "stream:progress:{job_id}"       # Stream: progress events

    # Rate limiting keys
    RATE_LIMIT_KEY = "rl:key:{api_key_hash}"          # String: request count
    RATE_LIMIT_IP = "rl:ip:{ip_address}"              # String: request count

    # Cache keys
    CACHE_MODEL = "cache:model:{model_id}"             # String: model data
    CACHE_STATUS = "cache:status:{job_id}"             # String: status response

    # Lock keys
    LOCK_JOB = "lock:job:{job_id}"                    # String: distributed lock
    LOCK_FILE = "lock:file:{file_id}"                 # String: processing lock

    # Metrics keys
    METRIC_COUNTER = "metric:{metric_name}:count"      # String: counter
    METRIC_GAUGE = "metric:{metric_name}:value"        # String: gauge value

    @staticmethod
    def format_key(template: str, **kwargs) -> str:
        """Format key with parameters"""
        return template.format(**kwargs)
