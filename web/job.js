// What the page knows of a job: as it was read, then changed by each event of its stream.

const ENDED = ["completed", "partial", "failed", "cancelled", "expired"];
const FINISHED = ["completed", "failed", "cancelled"];
const WORDS = {
  pending: "queued",
  processing: "processing",
  retrying: "waiting to retry",
  completed: "completed",
  partial: "partly completed",
  failed: "failed",
  cancelling: "cancelling",
  cancelled: "cancelled",
  expired: "expired",
};

export const isOver = (job) => ENDED.includes(job.status);
export const isFinished = (file) => FINISHED.includes(file.status);
export const word = (status) => WORDS[status] ?? status;
export const shortId = (id) => id.slice(0, 8);

const time = (text) => (text ? Date.parse(text) : undefined);

/** A job of the service's JSON. */
export function jobOf(body) {
  return {
    id: body.job_id,
    status: body.status,
    progress: body.progress ?? 0,
    total: body.total_files,
    firstName: body.first_filename ?? body.files?.[0]?.filename,
    createdAt: time(body.created_at),
    startedAt: time(body.started_at),
    endedAt: time(body.ended_at),
    error: body.error,
    message: undefined,
    eta: undefined,
    links: body.links,
    files: (body.files ?? []).map((it) => ({
      id: it.file_id,
      name: it.filename,
      size: it.size,
      type: it.content_type,
      status: it.status,
      progress: it.progress,
      attempt: it.attempt,
      error: it.error,
      message: undefined,
      result: undefined,
    })),
  };
}

export const finishedFiles = (job) => job.files.filter(isFinished).length;

/** Changes `job` by an event. */
export function apply(job, name, data) {
  switch (name) {
    case "task_queued":
      job.status = "pending";
      job.progress = 0;
      break;
    case "task_progress":
      job.status = job.status === "cancelling" ? "cancelling" : "processing";
      job.progress = data.progress;
      job.message = data.message ?? job.message;
      job.eta = data.eta_seconds;
      break;
    case "file_update":
      applyToFile(job.files.find((it) => it.id === data.file_id), data);
      break;
    case "resync":
      job.status = data.status;
      job.progress = data.overall_progress;
      for (const file of job.files) applySnapshot(file, data.files[file.id]);
      break;
    case "task_completed":
      job.status = data.summary.failed_files > 0 ? "partial" : "completed";
      job.progress = 100;
      job.endedAt ??= Date.now();
      break;
    case "task_cancelled":
      job.status = "cancelled";
      break;
    case "task_failed":
      job.status = data.status;
      job.error = data.error;
      job.endedAt ??= Date.now();
      break;
  }
}

function applyToFile(file, data) {
  if (!file) return;
  file.status = data.status;
  file.progress = data.file_progress;
  file.message = data.message ?? file.message;
  file.error = data.error;
}

function applySnapshot(file, data) {
  if (!data) return;
  file.status = data.status;
  file.progress = data.progress;
  file.error = data.error;
}

/** An event in a few words, for the timeline. */
export function describe(name, data) {
  switch (name) {
    case "task_queued":
      return `waiting for a worker, ${data.total_files} files`;
    case "task_progress":
      return `${data.progress} % of the job, ${data.current} of ${data.total} files`;
    case "file_update":
      return [data.filename ?? data.file_id, stateOf(data), data.error ?? data.message].filter(Boolean).join(" · ");
    case "task_completed":
      return `${data.summary.successful_files} of ${data.summary.total_files} files have a model`;
    case "task_failed":
      return data.error;
    case "resync":
      return "earlier events are no longer kept; this is the present state";
    case "connection_timeout":
      return "the connection's time ran out";
    default:
      return data.status ?? "";
  }
}

const stateOf = (data) => (data.status === "processing" ? `${data.file_progress} %` : word(data.status));
