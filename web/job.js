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
export const finishedFiles = (job) => job.files.filter(isFinished).length;
export const word = (status) => WORDS[status] ?? status;
export const shortId = (id) => id.slice(0, 8);
export const mayCancel = (job) => !isOver(job) && job.status !== "cancelling";
export const mayRetry = (job) => ["partial", "failed", "cancelled"].includes(job.status);

export function titleOf(job) {
  const name = job.firstName ?? job.files[0]?.name;
  if (!name) return `Job ${shortId(job.id)}`;
  return job.files.length > 1 ? `${name} and ${job.files.length - 1} more` : name;
}

const time = (text) => (text ? Date.parse(text) : undefined);

/** A job of the service's JSON: a whole one, or one of a list, which lacks its files. */
export function jobOf(body) {
  return {
    id: body.job_id,
    status: body.status,
    progress: body.progress ?? 0,
    firstName: body.first_filename ?? body.files?.[0]?.filename,
    createdAt: time(body.created_at),
    startedAt: time(body.started_at),
    endedAt: time(body.ended_at),
    attempt: body.attempt,
    queuePosition: body.queue_position,
    error: body.error,
    isWhole: body.files !== undefined,
    files: body.files?.map(fileOf) ?? guessed(body),
  };
}

function fileOf(body) {
  return {
    id: body.file_id,
    name: body.filename,
    size: body.size,
    type: body.content_type,
    status: body.status,
    progress: body.progress,
    attempt: body.attempt,
    error: body.error,
  };
}

/** As many files as a job of a list has; which of them are finished is not known, only how many. */
function guessed({ total_files: total = 0, completed_files: completed = 0, failed_files: failed = 0, status }) {
  const rest = ["cancelled", "expired", "failed"].includes(status) ? "cancelled" : "pending";
  return Array.from({ length: total }, (_, index) => ({
    id: `file_${String(index).padStart(3, "0")}`,
    status: index < completed ? "completed" : index < completed + failed ? "failed" : rest,
    progress: index < completed ? 100 : 0,
  }));
}

/** Takes over what was read of `job`, and keeps what only events and other answers told. */
export function merge(job, read) {
  const { files, ...facts } = read;
  for (const [name, value] of Object.entries(facts)) {
    if (value !== undefined && !(name === "isWhole" && job.isWhole)) job[name] = value;
  }
  if (read.isWhole || job.files.length !== files.length) {
    const known = new Map(job.files.map((it) => [it.id, it]));
    job.files = files.map((it) => Object.assign(known.get(it.id) ?? {}, it));
  } else if (!job.isWhole) {
    files.forEach((it, index) => Object.assign(job.files[index], it));
  }
  if (read.isWhole) job.error = read.error;
}

/** Changes `job` by an event. */
export function apply(job, name, data) {
  switch (name) {
    case "task_queued":
      job.status = "pending";
      job.progress = 0;
      job.error = undefined;
      job.endedAt = undefined;
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
      break;
    case "task_cancelled":
      job.status = "cancelled";
      break;
    case "task_failed":
      job.status = data.status;
      job.error = data.error;
      break;
  }
}

function applyToFile(file, data) {
  if (!file) return;
  file.name = data.filename ?? file.name;
  file.status = data.status;
  file.progress = data.file_progress;
  file.message = data.message ?? file.message;
  file.error = data.error;
}

function applySnapshot(file, data) {
  if (!data) return;
  file.name = data.filename ?? file.name;
  file.status = data.status;
  file.progress = data.progress;
  file.error = data.error;
}
