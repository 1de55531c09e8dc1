// Made by `npm run types` from the service's API document; not for editing.

export interface paths {
    "/api/v1/admin/cache/invalidate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Remove cached values by tag or by pattern
         * @description By tag it is one step; by pattern it goes in batches, and may have to be asked again with the `cursor` it answers.
         */
        post: operations["admin_invalidate"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/cleanup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the report of the last cleanup
         * @description Or of the one that is running, whichever process runs it.
         */
        get: operations["admin_last"];
        put?: never;
        /**
         * Begin a cleanup
         * @description Answers at once: a cleanup takes its time. How it goes is at the same path.
         */
        post: operations["admin_begin"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List all keys, those of the settings too */
        get: operations["admin_list"];
        put?: never;
        /**
         * Make a key
         * @description Only its hash is kept, so this answer is the only one that shows it.
         */
        post: operations["admin_create"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/keys/{key_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Shut a key out, on every node within a second */
        delete: operations["admin_revoke"];
        options?: never;
        head?: never;
        /** Give a key these limits in place of those that it has */
        patch: operations["admin_limit"];
        trace?: never;
    };
    "/api/v1/admin/queues": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read how the queue and its workers are */
        get: operations["admin_queues"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/rate-limits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the limits, and who calls most
         * @description Callers are counted by each process for itself, over the last five to ten minutes.
         */
        get: operations["admin_policies"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/slow-queries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read Redis' slow log
         * @description Commands with their keys; of values only their length is told.
         */
        get: operations["admin_slow_queries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/admin/streams": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read what this process streams */
        get: operations["admin_streams"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/download/{job_id}/all": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List a finished job's models
         * @description Readable before any browser hears that the job is over.
         */
        get: operations["files_all"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Report how the service and its Redis are
         * @deprecated
         */
        get: operations["front_end_health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Report how the service and its Redis are
         * @deprecated
         */
        get: operations["front_end_health_"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health/detailed": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Report how the service and its Redis are
         * @deprecated
         */
        get: operations["front_end_health_detailed"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health/liveness": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether the process runs
         * @deprecated
         * @description Says nothing of Redis: a restart here would not mend it there.
         */
        get: operations["front_end_health_liveness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read metrics in Prometheus' text format
         * @deprecated
         * @description What this process measures, the shared metrics, and how the queue stands. The last two are left out when Redis
         *     does not answer in time: then one needs the first the most.
         */
        get: operations["front_end_health_metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/health/readiness": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether requests can be served
         * @deprecated
         */
        get: operations["front_end_health_readiness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List the caller's jobs, newest first */
        get: operations["jobs_list"];
        put?: never;
        /**
         * Create a job
         * @description At most `jobs.max_files` files. With an `Idempotency-Key`, a repeated request answers with the job that the first
         *     one made, and `Idempotent-Replayed: true`.
         */
        post: operations["jobs_create"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a job and its files */
        get: operations["jobs_show"];
        put?: never;
        post?: never;
        /** Delete a job and all that is kept of it */
        delete: operations["jobs_delete"];
        options?: never;
        head?: never;
        /**
         * Change a job's status
         * @description Only what may follow the present status.
         */
        patch: operations["jobs_change"];
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel queued or running work
         * @description 202 and `cancelling` while a worker is still at it; watchers are told when it has stopped.
         */
        post: operations["jobs_cancel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follow what Python programs publish about a job
         * @description The messages of the channel `job:{job_id}:events` as they come, without a past.
         */
        get: operations["progress_follow_events"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/files": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List a job's files */
        get: operations["files_files"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/files/{file_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read one file */
        get: operations["files_file"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/files/{file_id}/progress": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Report a file's progress */
        post: operations["progress_report_file"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/files/{file_id}/result": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a file's result */
        get: operations["files_result"];
        /**
         * Report a file's result
         * @description Writing the same one twice counts once. The last file's result ends the job.
         */
        put: operations["files_finish"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/progress": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read how far a job is */
        get: operations["progress_show"];
        put?: never;
        /**
         * Report many files' progress
         * @description All of it is recorded or, on an error, none.
         */
        post: operations["progress_report_batch"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/progress/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follow a job
         * @description Begins with what is known of the job, and ends with it.
         */
        get: operations["progress_follow_job"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Try the failed files again */
        post: operations["jobs_retry"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a job's small status
         * @description For pollers: cached, with an `ETag`.
         */
        get: operations["jobs_status"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Make a fresh stream ticket */
        post: operations["progress_ticket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/jobs/{job_id}/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the webhooks of a job, and what became of them
         * @description One for each attempt that ended; none, if the job was created without `webhook_url`.
         */
        get: operations["jobs_webhooks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/key": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read whose key this is, and what it may do */
        get: operations["keys_own"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/locks/{resource}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take a lock
         * @description It ends with its TTL, whatever its holder does; the `fencing_token` lets what is written to under it refuse an
         *     earlier holder. Who waits is woken by the release.
         */
        post: operations["locks_acquire"];
        /** Give a lock back */
        delete: operations["locks_release"];
        options?: never;
        head?: never;
        /** Set the remaining time of a lock */
        patch: operations["locks_extend"];
        trace?: never;
    };
    "/api/v1/metrics/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Read a shared counter or gauge */
        get: operations["metrics_read"];
        put?: never;
        /**
         * Change a shared counter or gauge
         * @description Written within `metrics.flush_interval`, with all that came meanwhile.
         */
        post: operations["metrics_write"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/models/{model_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a model
         * @description What is missing is fetched from `models.origin`, if that is set, once for all who ask.
         */
        get: operations["models_show"];
        /** Store a model */
        put: operations["models_store"];
        post?: never;
        /** Remove a model */
        delete: operations["models_remove"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/progress/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follow up to 100 jobs on one connection
         * @description Browsers allow six connections to a host. Every event carries its `job_id`.
         */
        get: operations["progress_follow_jobs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/progress/ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a link to the stream of up to 100 jobs
         * @description Jobs that do not exist, or are somebody else's, are left out: a page that shows a list need not know which were
         *     deleted meanwhile.
         */
        post: operations["progress_many"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/rate-limits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read how the caller stands with each limit
         * @description Asking does not count.
         */
        get: operations["rate_limits_show"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status/jobs/{job_id}/progress": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read how far a job is
         * @deprecated
         */
        get: operations["front_end_status_jobs_progress"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status/tasks/{job_id}/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a job's small status
         * @deprecated
         * @description For pollers: cached, with an `ETag`.
         */
        get: operations["front_end_status_tasks_status"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status/tasks/{job_id}/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follow a job
         * @deprecated
         * @description Begins with what is known of the job, and ends with it.
         */
        get: operations["front_end_status_tasks_stream"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Report how the service and its Redis are */
        get: operations["health_health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/livez": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether the process runs
         * @description Says nothing of Redis: a restart here would not mend it there.
         */
        get: operations["health_live"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read metrics in Prometheus' text format
         * @description What this process measures, the shared metrics, and how the queue stands. The last two are left out when Redis
         *     does not answer in time: then one needs the first the most.
         */
        get: operations["health_metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether requests can be served */
        get: operations["health_ready"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/startupz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether Redis was reached once */
        get: operations["health_started"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        BatchItem: {
            attempt?: number | null;
            file_id: components["schemas"]["FileId"];
            /**
             * @description For people, at most 1024 bytes.
             * @example building the mesh
             */
            message?: string | null;
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
        };
        /** @description The body of POST …/progress: many files at once. */
        BatchReport: {
            files: components["schemas"]["BatchItem"][];
        };
        BusyCaller: {
            /** @example 5211 */
            admitted: number;
            /**
             * @description A key's name, an address, or a network.
             * @example upload-api
             */
            caller: string;
            /**
             * @description Of a key, the first digits of its SHA-256.
             * @example 72ee9d43
             */
            key_hash?: string;
            /** @example 0 */
            refused: number;
            /** @description The group of routes, for policies that count each by itself. */
            route?: components["schemas"]["RouteGroup"];
            /**
             * @description At most so much of these may be of other callers: only the busiest are counted exactly.
             * @example 0
             */
            uncertain: number;
        };
        /**
         * @example {
         *       "complete": true,
         *       "removed": 12
         *     }
         */
        CacheInvalidated: {
            /** @description Whether all keys were seen. */
            complete: boolean;
            /** @description With which to ask again for the rest. */
            cursor?: string;
            /** @description How many there were. */
            removed: number;
        };
        /**
         * @example {
         *       "tag": "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
         *     }
         */
        CacheInvalidation: {
            /** @description Of an answer that was not complete. */
            cursor?: string | null;
            /** @description Or every value whose key matches, a glob that begins with `cache:`. */
            pattern?: string | null;
            /** @description Every value that has it. */
            tag?: string | null;
        };
        Check: {
            /** @example redis:jobs */
            name: string;
            ok: boolean;
        };
        /** @description What happened to keys, and to members of sets. */
        CleanupCounts: {
            /** @description Keys that had no TTL and got one. */
            adopted: number;
            /** @description Members that are gone from sets and sorted sets. */
            pruned: number;
            /** @description Keys that are gone. */
            removed: number;
            /** @description Keys that were looked at. */
            scanned: number;
        };
        /** @description A cleanup, running or over. Kept in Redis, so that every process can show the last one. */
        CleanupReport: {
            dry_run: boolean;
            /** Format: date-time */
            ended_at?: string;
            /** @description Why it did not finish. */
            error?: string;
            families: {
                [key: string]: {
                    [key: string]: components["schemas"]["CleanupCounts"];
                };
            };
            /**
             * Format: uuid
             * @description Names the run; it stands in the lock while the run goes on.
             */
            id: string;
            /** Format: double */
            longest_step_ms: number;
            /** Format: date-time */
            started_at: string;
            state: components["schemas"]["CleanupState"];
            /** @description Calls to Redis, how long they took together, and the longest. */
            steps: number;
            totals: components["schemas"]["CleanupCounts"];
            /** @description Keys that are not ours, by database. They are left alone. */
            unknown: {
                [key: string]: number;
            };
            unknown_examples: string[];
            /** Format: double */
            work_ms: number;
        };
        /** @enum {string} */
        CleanupState: "running" | "finished" | "interrupted" | "failed";
        CompletedFileResult: {
            /** @description Which attempt this is from; without it, the present one. */
            attempt?: number | null;
            result: components["schemas"]["Model"];
            /** @enum {string} */
            status: "completed";
        };
        CreatedBody: {
            /**
             * @description The key's first characters, by which operators name it.
             * @example i2m_Ab12Cd34
             */
            id: string;
            /**
             * @description Shown this once.
             * @example i2m_Ab12Cd34Ef56Gh78Ij90Kl12Mn34Op56Qr78St90Uvw
             */
            key: string;
        };
        Download: {
            /** Format: date-time */
            created_time: string | null;
            /** @example chair.glb */
            filename: string;
            /** @example model/gltf-binary */
            mime_type: string;
            /** @description Null where there is none: the front-end tests for it. */
            rendered_image: Record<string, never> | null;
            /**
             * @description Bytes.
             * @example 81920
             */
            size: number;
        };
        Downloads: {
            /**
             * @description In the order of `files`.
             * @example [
             *       "https://models.example/chair.glb"
             *     ]
             */
            download_urls: string[];
            files: components["schemas"]["Download"][];
            job_id: components["schemas"]["JobId"];
            total_files: number;
        };
        FailedFileResult: {
            /** @description Which attempt this is from; without it, the present one. */
            attempt?: number | null;
            /**
             * @description For people, 1 to 4096 bytes.
             * @example no object in the picture
             */
            error: string;
            /** @enum {string} */
            status: "failed";
        };
        /**
         * @description A file's name within its job: `file_000`, `file_001`, …, its place in `job:{id}:files`.
         * @example file_000
         */
        FileId: string;
        /**
         * @description A name and no path, 1 to 255 bytes.
         * @example chair.png
         */
        Filename: string;
        /** @description A file as watchers see it. */
        FileProgress: {
            error?: string;
            /** @example chair.png */
            filename: string;
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
            status: components["schemas"]["FileStatus"];
        };
        /** @description The body of POST …/`files/{file_id}/progress`. */
        FileReport: {
            /** @description What is from an older attempt than the present one is ignored. */
            attempt?: number | null;
            /**
             * @description For people, at most 1024 bytes.
             * @example building the mesh
             */
            message?: string | null;
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
        };
        /** @description The body of PUT …/result: a model or an error. */
        FileResult: components["schemas"]["CompletedFileResult"] | components["schemas"]["FailedFileResult"];
        /**
         * @description A file's state.
         * @example processing
         * @enum {string}
         */
        FileStatus: "pending" | "processing" | "retrying" | "completed" | "failed" | "cancelled";
        FinishedFile: {
            file_id: components["schemas"]["FileId"];
            job_id: components["schemas"]["JobId"];
            /** @description The job's status after it. */
            status: components["schemas"]["Status"];
        };
        /** @description The body of `/health`. */
        HealthReport: {
            /**
             * @example {
             *       "ping": {
             *         "response_time_ms": 0.2,
             *         "status": "ok"
             *       }
             *     }
             */
            checks: {
                [key: string]: unknown;
            };
            /**
             * @description In words, for people; empty when all is well.
             * @example []
             */
            problems: string[];
            /** @example image2model-gateway */
            service: string;
            status: components["schemas"]["Verdict"];
            /** Format: date-time */
            timestamp: string;
            /** Format: int64 */
            uptime_seconds: number;
            /** @example 0.1.0 */
            version: string;
        };
        /** @description A job as callers see it; a field without a value is left out. */
        Job: {
            attempt: number;
            completed_files: number;
            /** Format: date-time */
            created_at?: string;
            /** Format: date-time */
            ended_at?: string;
            error?: string;
            failed_files: number;
            files: components["schemas"]["JobFile"][];
            job_id: components["schemas"]["JobId"];
            links: components["schemas"]["JobLinks"];
            params?: {
                [key: string]: unknown;
            };
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
            /** @description How many tasks are served first, while the job waits in a Celery queue. */
            queue_position?: number;
            /** Format: date-time */
            started_at?: string;
            status: components["schemas"]["Status"];
            total_files: number;
            /** Format: date-time */
            updated_at?: string;
        };
        /** @description A file of a job. */
        JobFile: {
            attempt: number;
            /** @example image/png */
            content_type?: string;
            error?: string;
            file_id: components["schemas"]["FileId"];
            /** @example chair.png */
            filename: string;
            /** @description What its worker said last. */
            message?: string;
            metadata?: {
                [key: string]: unknown;
            };
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
            /**
             * @description Bytes.
             * @example 204800
             */
            size?: number;
            status: components["schemas"]["FileStatus"];
            url?: string;
        };
        JobFiles: {
            files: components["schemas"]["JobFile"][];
            job_id: components["schemas"]["JobId"];
        };
        /**
         * Format: uuid
         * @description A job's name: a UUID, in Redis keys and over HTTP in lower case with hyphens.
         * @example 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
         */
        JobId: string;
        /**
         * @example {
         *       "cancel": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/cancel",
         *       "progress": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress",
         *       "self": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
         *       "stream": "/api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream?ticket=MTc5NTQwNTcyMg.5mYw"
         *     }
         */
        JobLinks: {
            cancel: string;
            progress: string;
            self: string;
            /** @description For `EventSource`: with a ticket, so that no header is needed. */
            stream: string;
        };
        JobPage: {
            jobs: components["schemas"]["JobSummary"][];
            /** @description Where the next page begins; absent on the last. */
            next_cursor?: string;
        };
        /** @description The answer of GET …/progress, and the data of `resync`. */
        JobProgress: {
            completed_files: number;
            failed_files: number;
            files: {
                [key: string]: components["schemas"]["FileProgress"];
            };
            job_id: components["schemas"]["JobId"];
            overall_progress: number;
            status: components["schemas"]["Status"];
            total_files: number;
        };
        JobStatus: {
            job_id: components["schemas"]["JobId"];
            status: components["schemas"]["Status"];
        };
        JobsToFollow: {
            jobs: components["schemas"]["JobId"][];
        };
        /** @description A job as lists show it. */
        JobSummary: {
            completed_files: number;
            /** Format: date-time */
            created_at?: string;
            error?: string;
            failed_files: number;
            /**
             * @description What the job is about, for people.
             * @example chair.png
             */
            first_filename?: string;
            job_id: components["schemas"]["JobId"];
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
            status: components["schemas"]["Status"];
            total_files: number;
            /** Format: date-time */
            updated_at?: string;
        };
        JobWebhooks: {
            job_id: components["schemas"]["JobId"];
            webhooks: components["schemas"]["Webhook"][];
        };
        KeyBody: {
            /** @example 2026-11-23T00:58:58Z */
            created_at?: string;
            /**
             * @description The key's first characters. A key of the settings has none that anybody knows.
             * @example i2m_Ab12Cd34
             */
            id?: string;
            /** @example 2026-11-23T00:58:58Z */
            last_used_at?: string;
            /**
             * @example {
             *       "key": 60000
             *     }
             */
            limits: {
                [key: string]: number;
            };
            name: string;
            roles: components["schemas"]["Role"][];
            /**
             * @description `stored` or `configured`.
             * @example stored
             */
            source: string;
        };
        KeysBody: {
            keys: components["schemas"]["KeyBody"][];
        };
        LimitedBody: {
            /** @example i2m_Ab12Cd34 */
            id: string;
            /**
             * @example {
             *       "key": 60000
             *     }
             */
            limits: {
                [key: string]: number;
            };
        };
        LimitsBody: {
            /**
             * @description By policy; what is left out has the policy's.
             * @example {
             *       "key": 60000
             *     }
             */
            limits: {
                create_job?: number;
                files?: number;
                key?: number;
            };
        };
        /**
         * @description An absolute http(s), s3 or gs URL, or a path.
         * @example https://uploads.example/chair.png
         */
        Link: string;
        Lock: {
            /** Format: date-time */
            expires_at: string;
            /**
             * @description Larger than that of every earlier holder.
             *     Absent for a lock that another program took, by Redis itself.
             * @example 1700000000000000
             */
            fencing_token?: number;
            /** @example job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed */
            resource: string;
            /** Format: uuid */
            token: string;
        };
        LockExtension: {
            /**
             * Format: uuid
             * @example 5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11
             */
            token: string;
            /**
             * Format: int64
             * @description The remaining time, from now on; at most `locks.max_ttl`.
             * @example 30
             */
            ttl_secs: number;
        };
        Metric: {
            /** Format: double */
            count?: number;
            name: components["schemas"]["MetricName"];
            /** Format: double */
            value?: number;
        };
        /** @description One of the two. */
        MetricChange: {
            /**
             * @description Added to the counter.
             * @example 1
             */
            increment?: number | null;
            /**
             * Format: double
             * @description The gauge's new value.
             * @example null
             */
            value?: number | null;
        };
        /**
         * @description The name of a shared metric.
         * @example models.rendered
         */
        MetricName: string;
        /**
         * @description The finished model. Fields beyond these are kept.
         * @example {
         *       "filename": "chair.glb",
         *       "mime_type": "model/gltf-binary",
         *       "rendered_image": {
         *         "url": "https://models.example/chair.png"
         *       },
         *       "size": 81920,
         *       "url": "https://models.example/chair.glb"
         *     }
         */
        Model: {
            filename: components["schemas"]["Filename"];
            mime_type: string;
            rendered_image?: components["schemas"]["RenderedImage"] | null;
            /** @description Bytes. */
            size: number;
            url: components["schemas"]["Link"];
        } & {
            [key: string]: unknown;
        };
        /** @description What a worker stored, as it is. */
        ModelData: unknown;
        /** @description One picture. Its bytes are elsewhere; this says what they are. */
        NewFile: {
            /** @example image/png */
            content_type?: string | null;
            filename: components["schemas"]["Filename"];
            /** @description Anything the caller wants to find again. */
            metadata?: {
                [key: string]: unknown;
            };
            /**
             * @description Bytes.
             * @example 204800
             */
            size?: number | null;
            url?: components["schemas"]["Link"] | null;
        };
        /** @description The body of POST /jobs. */
        NewJob: {
            files: components["schemas"]["NewFile"][];
            /** @description What the worker shall do with the files; passed on as it is. */
            params?: {
                [key: string]: unknown;
            };
        };
        /**
         * @example {
         *       "limits": {
         *         "key": 60000
         *       },
         *       "name": "upload-api",
         *       "roles": [
         *         "client"
         *       ]
         *     }
         */
        NewKeyBody: {
            /** @description Other limits than those of the policies, by their names. */
            limits?: {
                create_job?: number;
                files?: number;
                key?: number;
            };
            /** @description Who gets it; two keys may have one name, so that they can be rotated. */
            name: string;
            roles: components["schemas"]["Role"][];
        };
        NewLock: {
            /**
             * Format: int64
             * @description At most `locks.max_ttl`.
             * @example 30
             */
            ttl_secs: number;
            /**
             * Format: int64
             * @description How long to wait for it; at most `locks.max_wait`.
             * @example 0
             */
            wait_secs?: number;
        };
        NewModel: {
            /** @description Any JSON, of at most `models.max_size`. */
            data: unknown;
            /**
             * @description Whether reading it makes it fresh for as long again.
             * @example false
             */
            refresh_on_hit?: boolean;
            /**
             * Format: int64
             * @description How long after that it is still served, as stale.
             * @example 60
             */
            stale_secs?: number;
            /** @description With which it is invalidated. */
            tags?: components["schemas"]["Tag"][];
            /**
             * Format: int64
             * @description How long it is fresh, at most `models.max_ttl`; without it `models.ttl`.
             * @example 300
             */
            ttl_secs?: number | null;
        };
        /** @enum {string} */
        Outcome: "completed" | "failed";
        OwnKey: {
            /**
             * @description The key's name; with `auth.mode = "open"` the first digits of its hash.
             * @example upload-api
             */
            name: string;
            /**
             * @example [
             *       "client"
             *     ]
             */
            roles: components["schemas"]["Role"][];
        };
        /** @description The answer of a probe. */
        Probe: {
            /** @description With `?verbose`. */
            checks?: components["schemas"]["Check"][];
            /**
             * @description `ok` or `not ok`.
             * @example ok
             */
            status: string;
        };
        /** @description An error (RFC 9457). */
        Problem: {
            /** @description What is wrong, for people; may change. */
            detail: string;
            /** @description Names and values that belong to `error_code`. */
            details: {
                [key: string]: unknown;
            };
            /** @description Always true. */
            error: boolean;
            /**
             * @description What is wrong, for programs; does not change.
             * @enum {string}
             */
            error_code: "AUTHENTICATION_REQUIRED" | "BODY_TIMEOUT" | "CLEANUP_NOT_FOUND" | "CLEANUP_RUNNING" | "FILE_NOT_FOUND" | "IDEMPOTENCY_CONFLICT" | "INSUFFICIENT_PERMISSIONS" | "INTERNAL" | "INVALID_API_KEY" | "INVALID_JOB_ID" | "INVALID_TRANSITION" | "JOB_EXISTS" | "JOB_NOT_FOUND" | "KEY_NOT_FOUND" | "LOCK_LOST" | "LOCK_UNAVAILABLE" | "METHOD_NOT_ALLOWED" | "METRIC_NOT_FOUND" | "MODEL_NOT_FOUND" | "NOT_FOUND" | "NOT_PERMITTED_BY_REDIS" | "ORIGIN_FAILED" | "PAYLOAD_TOO_LARGE" | "RATE_LIMIT_EXCEEDED" | "REDIS_UNAVAILABLE" | "SERVICE_BUSY" | "TIMEOUT" | "TOO_MANY_FILES" | "TOO_MANY_KEYS" | "UNSUPPORTED_MEDIA_TYPE" | "VALIDATION_ERROR";
            /** @description The same as `detail`. */
            message: string;
            /** @description The answer's `X-Request-Id`. */
            request_id: string;
            status: number;
            /** @description The status in words. */
            title: string;
            /** @description A name for this kind of problem. */
            type: string;
        };
        /** @description A queue as it stands. */
        Queue: {
            /** @description Messages in all its priority lists. */
            depth: number;
            /** @description By priority step. */
            depth_by_priority: number[];
            /** @description Messages of all queues that workers have taken and not acknowledged. */
            in_flight: number;
            /** @description Seconds since the job that waits longest was created or retried. */
            oldest_age_seconds?: number;
            /** @description Seconds since the oldest of these was delivered. */
            oldest_in_flight_seconds?: number;
            /** @example batch_processing */
            queue: string;
        };
        Queues: {
            /** @description Whether jobs are handed to Celery at all. */
            enabled: boolean;
            queues: components["schemas"]["Queue"][];
            /** @description Result messages that this process has heard while it looked after Celery. */
            result_messages?: components["schemas"]["ResultMessages"];
            /**
             * @description Tasks that have shown no sign of life for long.
             * @example []
             */
            stalled_tasks: string[];
            workers: components["schemas"]["QueueWorker"][];
            workers_alive: number;
        };
        /** @description A worker that lives. */
        QueueWorker: {
            last_heartbeat_seconds: number;
            /** @example celery@worker-1 */
            name: string;
        };
        RateLimit: {
            algorithm: components["schemas"]["RateLimitAlgorithm"];
            cost: components["schemas"]["RateLimitCost"];
            limit: number;
            /** @example per-key */
            policy: string;
            remaining: number;
            /** @description Unix seconds; when the whole limit is back, or the next request may come. */
            reset: number;
            /** @description The group of routes whose count this is, for policies that count each by itself. */
            route?: components["schemas"]["RouteGroup"];
            scope: components["schemas"]["RateLimitScope"];
            window_secs: number;
        };
        /**
         * @description How windows follow each other.
         * @enum {string}
         */
        RateLimitAlgorithm: "fixed_window" | "sliding_window" | "gcra";
        /**
         * @description What a request spends.
         * @enum {string}
         */
        RateLimitCost: "request" | "file";
        /**
         * @description What happens while Redis cannot be asked.
         * @enum {string}
         */
        RateLimitOnRedisFailure: "open" | "closed" | "local";
        RateLimitPolicies: {
            /** @description Whether anything is counted. */
            enabled: boolean;
            policies: components["schemas"]["RateLimitPolicy"][];
            /**
             * @description Of how many of the last seconds `busiest` tells.
             * @example 412
             */
            seconds: number;
            /** @description Whether it is counted, and nobody refused. */
            shadow: boolean;
        };
        RateLimitPolicy: {
            algorithm: components["schemas"]["RateLimitAlgorithm"];
            /** @description Who spent most at this process, the busiest first. */
            busiest: components["schemas"]["BusyCaller"][];
            cost: components["schemas"]["RateLimitCost"];
            /** @example 6000 */
            limit: number;
            on_redis_failure: components["schemas"]["RateLimitOnRedisFailure"];
            /** @example key */
            policy: string;
            /** @description The groups of routes that it counts; none are all. */
            routes: components["schemas"]["RouteGroup"][];
            scope: components["schemas"]["RateLimitScope"];
            /** @example 60 */
            window_secs: number;
        };
        RateLimits: {
            /** @description Whether anybody is refused. */
            enforced: boolean;
            policies: components["schemas"]["RateLimit"][];
        };
        /**
         * @description Who has a count of their own.
         * @enum {string}
         */
        RateLimitScope: "key" | "ip" | "key_route" | "ip_route";
        /** @description How many of the reports changed something. */
        Recorded: {
            /** @description From an older attempt, or of a file that is finished. */
            ignored: number;
            recorded: number;
        };
        RenderedImage: {
            url: components["schemas"]["Link"];
        } & {
            [key: string]: unknown;
        };
        /** @description Result messages that this process has heard as the keeper. */
        ResultMessages: {
            /** @description Of tasks that are not ours. */
            foreign: number;
            /** @description That no Celery wrote. */
            malformed: number;
            observed: number;
        };
        /**
         * @description What a key may do.
         * @enum {string}
         */
        Role: "client" | "worker" | "admin";
        /**
         * @description Routes that are limited together.
         * @enum {string}
         */
        RouteGroup: "create_job" | "read" | "write" | "report" | "stream" | "admin";
        /** @description A command that took long. */
        SlowCommand: {
            /** @description The address that the command came from. */
            client: string;
            client_name: string;
            command: string;
            duration_microseconds: number;
            id: number;
            /** Format: date-time */
            start_time?: string;
        };
        SlowQueries: {
            slow_queries: components["schemas"]["SlowCommand"][];
        };
        /** @description What `status.lua` writes. */
        SmallStatus: {
            completed_files: number;
            failed_files: number;
            job_id: components["schemas"]["JobId"];
            /**
             * @description Percent.
             * @example 40
             */
            progress: number;
            /**
             * @description The stored status, which other programs may have written.
             * @example processing
             */
            status: string;
            total_files: number;
            /** Format: date-time */
            updated_at: string;
        };
        /**
         * @description A job's state. `Pending` is the seed's word for queued.
         * @example processing
         * @enum {string}
         */
        Status: "pending" | "processing" | "completed" | "partial" | "failed" | "cancelling" | "cancelled" | "expired";
        /**
         * @example {
         *       "status": "processing"
         *     }
         */
        StatusChange: {
            status: components["schemas"]["Status"];
        };
        StoredModel: {
            /** Format: date-time */
            expires_at: string;
            /** Format: date-time */
            fresh_until: string;
            /** @example chair-1 */
            model_id: string;
            /**
             * @example [
             *       "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
             *     ]
             */
            tags: string[];
        };
        /** @description What is stored of a file's result. Other programs may have written more. */
        StoredResult: {
            attempt?: number;
            error?: string;
            file_id: components["schemas"]["FileId"];
            result?: components["schemas"]["Model"];
            status: components["schemas"]["Outcome"];
        };
        StreamCancelled: {
            job_id: components["schemas"]["JobId"];
            status: string;
            task_id: components["schemas"]["JobId"];
        };
        StreamCompleted: {
            job_id: components["schemas"]["JobId"];
            progress: number;
            result: components["schemas"]["StreamResult"];
            status: string;
            summary: components["schemas"]["StreamSummary"];
        };
        /** @description The data of an event, whose name says which. */
        StreamEvent: components["schemas"]["StreamQueued"] | components["schemas"]["StreamProgress"] | components["schemas"]["StreamFileUpdate"] | components["schemas"]["StreamCompleted"] | components["schemas"]["StreamFailed"] | components["schemas"]["StreamCancelled"] | components["schemas"]["StreamTimeout"] | components["schemas"]["JobProgress"];
        StreamFailed: {
            error: string;
            job_id: components["schemas"]["JobId"];
            status: string;
        };
        StreamFileUpdate: {
            error?: string;
            file_id: string;
            file_progress: number;
            filename?: string;
            index?: number;
            job_id: components["schemas"]["JobId"];
            message?: string;
            status: components["schemas"]["FileStatus"];
        };
        StreamLink: {
            /** @description Those of the jobs that there are, in the order of the stream's ids. */
            jobs: components["schemas"]["JobId"][];
            /**
             * @description Their stream, with a ticket for each; absent if none of them exists.
             * @example /api/v1/progress/stream?jobs=1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed&ticket=MTc5NTQwNTcyMg.5mYw
             */
            stream?: string;
        };
        StreamProgress: {
            current: number;
            eta_seconds?: number;
            job_id: components["schemas"]["JobId"];
            message?: string;
            progress: number;
            status: string;
            task_id: components["schemas"]["JobId"];
            timestamp: number;
            total: number;
            total_files: number;
        };
        StreamQueued: {
            job_id: components["schemas"]["JobId"];
            progress: number;
            status: string;
            task_id: components["schemas"]["JobId"];
            total_files: number;
        };
        StreamResult: {
            job_id: components["schemas"]["JobId"];
        };
        /** @description What this process streams, the most watched jobs first. */
        Streams: {
            jobs: components["schemas"]["WatchedJob"][];
            open: number;
        };
        StreamSummary: {
            failed_files: number;
            successful_files: number;
            total_files: number;
        };
        StreamTimeout: {
            job_id?: components["schemas"]["JobId"];
            status: string;
        };
        /**
         * @description What cached values have in common that are invalidated together, in `tag:{tag}` and over HTTP.
         * @example job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
         */
        Tag: string;
        Ticket: {
            /**
             * @description The job's stream, with the ticket.
             * @example /api/v1/jobs/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/progress/stream?ticket=MTc5NTQwNTcyMg.5mYw
             */
            stream: string;
            /** @example MTc5NTQwNTcyMg.5mYw */
            ticket: string;
        };
        /**
         * @description The worst that was found.
         * @enum {string}
         */
        Verdict: "healthy" | "degraded" | "unhealthy";
        WatchedJob: {
            job_id: components["schemas"]["JobId"];
            subscribers: number;
        };
        /** @description A webhook as its owner sees it. */
        Webhook: {
            attempt: number;
            log: components["schemas"]["WebhookAttempt"][];
            /** Format: date-time */
            next_try_at?: string;
            /** @description `pending`, `delivered` or `given_up`. */
            state: string;
            tries: number;
            type: string;
            url: string;
            webhook_id: string;
        };
        /** @description An attempt to deliver. */
        WebhookAttempt: {
            /** Format: date-time */
            at?: string;
            duration_ms: number;
            outcome: string;
            status?: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    admin_invalidate: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CacheInvalidation"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CacheInvalidated"];
                };
            };
        };
    };
    admin_last: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CleanupReport"];
                };
            };
        };
    };
    admin_begin: {
        parameters: {
            query?: {
                /** @description Count what would be done, and do nothing. */
                dry_run?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CleanupReport"];
                };
            };
        };
    };
    admin_list: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeysBody"];
                };
            };
        };
    };
    admin_create: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewKeyBody"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CreatedBody"];
                };
            };
        };
    };
    admin_revoke: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The key: its first twelve characters. */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    admin_limit: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The key: its first twelve characters. */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LimitsBody"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LimitedBody"];
                };
            };
        };
    };
    admin_queues: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queues"];
                };
            };
        };
    };
    admin_policies: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RateLimitPolicies"];
                };
            };
        };
    };
    admin_slow_queries: {
        parameters: {
            query?: {
                /** @description How many at most, 1 to 100. */
                num?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SlowQueries"];
                };
            };
        };
    };
    admin_streams: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Streams"];
                };
            };
        };
    };
    files_all: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Downloads"];
                };
            };
        };
    };
    front_end_health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthReport"];
                };
            };
        };
    };
    front_end_health_: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthReport"];
                };
            };
        };
    };
    front_end_health_detailed: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthReport"];
                };
            };
        };
    };
    front_end_health_liveness: {
        parameters: {
            query?: {
                /** @description Says each check; its value does not matter. */
                verbose?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Probe"];
                };
            };
        };
    };
    front_end_health_metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    front_end_health_readiness: {
        parameters: {
            query?: {
                /** @description Says each check; its value does not matter. */
                verbose?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Probe"];
                };
            };
        };
    };
    jobs_list: {
        parameters: {
            query?: {
                /** @description Only jobs that were created after this moment. */
                created_after?: string;
                /** @description `next_cursor` of the page before. */
                cursor?: string;
                /** @description Jobs on a page; 20 without it. */
                limit?: number;
                /** @description Only jobs in this state. */
                status?: components["schemas"]["Status"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPage"];
                };
            };
        };
    };
    jobs_create: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 printable ASCII characters. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewJob"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    /** @description Where the job is. */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
        };
    };
    jobs_show: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
        };
    };
    jobs_delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    jobs_change: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["StatusChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobStatus"];
                };
            };
        };
    };
    jobs_cancel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobStatus"];
                };
            };
            /** @description Accepted. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobStatus"];
                };
            };
        };
    };
    progress_follow_events: {
        parameters: {
            query?: {
                /** @description Where to go on, for who cannot send `Last-Event-ID`. */
                last_event_id?: string;
                /** @description A stream ticket; for several jobs one each, separated by commas. */
                ticket?: string;
                /** @description Seconds after which the stream closes. */
                timeout?: number;
            };
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": Record<string, never>;
                };
            };
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    files_files: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobFiles"];
                };
            };
        };
    };
    files_file: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The file: `file_` and its place in the job, from `file_000`. */
                file_id: string;
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobFile"];
                };
            };
        };
    };
    progress_report_file: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The file: `file_` and its place in the job, from `file_000`. */
                file_id: string;
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["FileReport"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Recorded"];
                };
            };
        };
    };
    files_result: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The file: `file_` and its place in the job, from `file_000`. */
                file_id: string;
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StoredResult"];
                };
            };
        };
    };
    files_finish: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The file: `file_` and its place in the job, from `file_000`. */
                file_id: string;
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["FileResult"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FinishedFile"];
                };
            };
        };
    };
    progress_show: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobProgress"];
                };
            };
        };
    };
    progress_report_batch: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BatchReport"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Recorded"];
                };
            };
        };
    };
    progress_follow_job: {
        parameters: {
            query?: {
                /** @description Where to go on, for who cannot send `Last-Event-ID`. */
                last_event_id?: string;
                /** @description A stream ticket; for several jobs one each, separated by commas. */
                ticket?: string;
                /** @description Seconds after which the stream closes. */
                timeout?: number;
            };
            header?: {
                /** @description Where to go on. */
                "Last-Event-ID"?: string;
            };
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamEvent"];
                };
            };
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    jobs_retry: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
        };
    };
    jobs_status: {
        parameters: {
            query?: never;
            header?: {
                /** @description The `ETag` of the last answer. */
                "If-None-Match"?: string;
            };
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Of this status. */
                    ETag?: string;
                    /** @description `hit` or `miss`. */
                    "X-Cache"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SmallStatus"];
                };
            };
            /** @description Not changed since. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    progress_ticket: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ticket"];
                };
            };
        };
    };
    jobs_webhooks: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobWebhooks"];
                };
            };
        };
    };
    keys_own: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OwnKey"];
                };
            };
        };
    };
    locks_acquire: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description What is locked, such as `job:{id}` or `file:{id}`: 1 to 200 bytes without spaces, not beginning with `i2m:`. */
                resource: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewLock"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lock"];
                };
            };
        };
    };
    locks_release: {
        parameters: {
            query: {
                /**
                 * @description As the lock was granted with.
                 * @example 5f0c1d9e-8d0b-4a53-9a54-0f6f3c2b7a11
                 */
                token: string;
            };
            header?: never;
            path: {
                /** @description What is locked, such as `job:{id}` or `file:{id}`: 1 to 200 bytes without spaces, not beginning with `i2m:`. */
                resource: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    locks_extend: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description What is locked, such as `job:{id}` or `file:{id}`: 1 to 200 bytes without spaces, not beginning with `i2m:`. */
                resource: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LockExtension"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lock"];
                };
            };
        };
    };
    metrics_read: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The metric: letters, digits, dots, hyphens and underscores. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Metric"];
                };
            };
        };
    };
    metrics_write: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The metric: letters, digits, dots, hyphens and underscores. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MetricChange"];
            };
        };
        responses: {
            /** @description It will be written. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    models_show: {
        parameters: {
            query?: never;
            header?: {
                /** @description The `ETag` of the last answer. */
                "If-None-Match"?: string;
            };
            path: {
                /** @description The model: letters, digits and `-_.:`. */
                model_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Of this model. */
                    ETag?: string;
                    /** @description `hit`, `stale` or `miss`; with 404 `miss` or `negative`. */
                    "X-Cache"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelData"];
                };
            };
            /** @description Not changed since. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    models_store: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The model: letters, digits and `-_.:`. */
                model_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewModel"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StoredModel"];
                };
            };
        };
    };
    models_remove: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The model: letters, digits and `-_.:`. */
                model_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    progress_follow_jobs: {
        parameters: {
            query: {
                /**
                 * @description The jobs' ids, separated by commas.
                 * @example 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed,7c9e6679-7425-40de-944b-e07fc1f90ae7
                 */
                jobs: string;
                /** @description Where to go on, for who cannot send `Last-Event-ID`. */
                last_event_id?: string;
                /** @description A stream ticket; for several jobs one each, separated by commas. */
                ticket?: string;
                /** @description Seconds after which the stream closes. */
                timeout?: number;
            };
            header?: {
                /** @description Where to go on. */
                "Last-Event-ID"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamEvent"];
                };
            };
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    progress_many: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["JobsToFollow"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StreamLink"];
                };
            };
        };
    };
    rate_limits_show: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RateLimits"];
                };
            };
        };
    };
    front_end_status_jobs_progress: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobProgress"];
                };
            };
        };
    };
    front_end_status_tasks_status: {
        parameters: {
            query?: never;
            header?: {
                /** @description The `ETag` of the last answer. */
                "If-None-Match"?: string;
            };
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Of this status. */
                    ETag?: string;
                    /** @description `hit` or `miss`. */
                    "X-Cache"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SmallStatus"];
                };
            };
            /** @description Not changed since. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    front_end_status_tasks_stream: {
        parameters: {
            query?: {
                /** @description Where to go on, for who cannot send `Last-Event-ID`. */
                last_event_id?: string;
                /** @description A stream ticket; for several jobs one each, separated by commas. */
                ticket?: string;
                /** @description Seconds after which the stream closes. */
                timeout?: number;
            };
            header?: {
                /** @description Where to go on. */
                "Last-Event-ID"?: string;
            };
            path: {
                /** @description The job: a UUID with hyphens. */
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["StreamEvent"];
                };
            };
            /** @description Done; there is nothing to say. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    health_health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthReport"];
                };
            };
        };
    };
    health_live: {
        parameters: {
            query?: {
                /** @description Says each check; its value does not matter. */
                verbose?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Probe"];
                };
            };
        };
    };
    health_metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    health_ready: {
        parameters: {
            query?: {
                /** @description Says each check; its value does not matter. */
                verbose?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Probe"];
                };
            };
        };
    };
    health_started: {
        parameters: {
            query?: {
                /** @description Says each check; its value does not matter. */
                verbose?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Probe"];
                };
            };
        };
    };
}
