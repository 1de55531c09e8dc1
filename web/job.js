// The client-side model of a job: parsed from API responses, then changed by stream events.

const TERMINAL_STATUSES = ["completed", "partial", "failed", "cancelled", "expired"];
const TERMINAL_FILE_STATUSES = ["completed", "failed", "cancelled"];
const STATUS_LABELS = {
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

export const isTerminal = (job) => TERMINAL_STATUSES.includes(job.status);
export const isFinished = (file) => TERMINAL_FILE_STATUSES.includes(file.status);
export const finishedCount = (job) => job.files.filter(isFinished).length;
export const statusLabel = (status) => STATUS_LABELS[status] ?? status;
export const shortId = (id) => id.slice(0, 8);
export const canCancel = (job) => !isTerminal(job) && job.status !== "cancelling";
export const canRetry = (job) => ["partial", "failed", "cancelled"].includes(job.status);

export function jobTitle(job) {
  const name = job.firstName ?? job.files[0]?.name;
  if (!name) return `Job ${shortId(job.id)}`;
  return job.files.length > 1 ? `${name} and ${job.files.length - 1} more` : name;
}

const parseTime = (text) => (text ? Date.parse(text) : undefined);

/** Parses a job from the API: a full job, or a list entry, which has no files. */
export function parseJob(body) {
  return {
    id: body.job_id,
    status: body.status,
    progress: body.progress ?? 0,
    firstName: body.first_filename ?? body.files?.[0]?.filename,
    createdAt: parseTime(body.created_at),
    startedAt: parseTime(body.started_at),
    endedAt: parseTime(body.ended_at),
    attempt: body.attempt,
    queuePosition: body.queue_position,
    error: body.error,
    hasDetails: body.files !== undefined,
    files: body.files?.map(parseFile) ?? placeholderFiles(body),
  };
}

function parseFile(body) {
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

/** Placeholders for the files of a list entry, which has only counts: the status of each single file is unknown. */
function placeholderFiles({ total_files: total = 0, completed_files: completed = 0, failed_files: failed = 0, status }) {
  const rest = ["cancelled", "expired", "failed"].includes(status) ? "cancelled" : "pending";
  return Array.from({ length: total }, (_, index) => ({
    id: `file_${String(index).padStart(3, "0")}`,
    status: index < completed ? "completed" : index < completed + failed ? "failed" : rest,
    progress: index < completed ? 100 : 0,
  }));
}

/** Copies `snapshot` into `job`, and keeps fields that only events or other responses contain. */
export function mergeSnapshot(job, snapshot) {
  const { files, ...facts } = snapshot;
  for (const [name, value] of Object.entries(facts)) {
    if (value !== undefined && !(name === "hasDetails" && job.hasDetails)) job[name] = value;
  }
  if (snapshot.hasDetails || job.files.length !== files.length) {
    const known = new Map(job.files.map((file) => [file.id, file]));
    job.files = files.map((file) => Object.assign(known.get(file.id) ?? {}, file));
  } else if (!job.hasDetails) {
    files.forEach((file, index) => Object.assign(job.files[index], file));
  }
  if (snapshot.hasDetails) job.error = snapshot.error;
}

/** Applies the stream event `name` to `job`. */
export function applyEvent(job, name, data) {
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
      applyFileEvent(job.files.find((file) => file.id === data.file_id), data);
      break;
    case "resync":
      job.status = data.status;
      job.progress = data.overall_progress;
      for (const file of job.files) applyFileSnapshot(file, data.files[file.id]);
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

function applyFileEvent(file, data) {
  if (!file) return;
  file.name = data.filename ?? file.name;
  file.status = data.status;
  file.progress = data.file_progress;
  file.message = data.message ?? file.message;
  file.error = data.error;
}

function applyFileSnapshot(file, data) {
  if (!data) return;
  file.name = data.filename ?? file.name;
  file.status = data.status;
  file.progress = data.progress;
  file.error = data.error;
}
