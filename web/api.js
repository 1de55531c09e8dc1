// HTTP calls to the service with the API key of this browser tab.

const STORAGE_KEY = "i2m.key";

/** An error response, or status 0 if there was no response. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The API key of this tab: the last one set, else `defaultKey`. */
export function loadKey(defaultKey) {
  if (sessionStorage.getItem(STORAGE_KEY) === null) sessionStorage.setItem(STORAGE_KEY, defaultKey);
  return sessionStorage.getItem(STORAGE_KEY);
}

export function setKey(key) {
  sessionStorage.setItem(STORAGE_KEY, key);
}

export const hasKey = () => Boolean(sessionStorage.getItem(STORAGE_KEY));

/**
 * Calls `path` and returns the JSON of the response. Throws an ApiError unless the status is 2xx or one of
 * `allowedStatuses`.
 */
export async function call(method, path, body, { allowedStatuses = [] } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(STORAGE_KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error instanceof TypeError && /ISO-8859-1|ByteString|header/i.test(error.message)) {
      throw new ApiError(0, "The API key contains invalid characters.");
    }
    throw new ApiError(0, "The service is unreachable.");
  }
  const json = await response.json().catch(() => ({}));
  if (response.ok || allowedStatuses.includes(response.status)) return json;
  throw new ApiError(response.status, json.detail || `The service returned HTTP ${response.status}.`);
}

const jobPath = (id) => `/api/v1/jobs/${encodeURIComponent(id)}`;

/** The name and the roles of the key in use. */
export const getOwnKey = () => call("GET", "/api/v1/key");

export const createJob = (files) =>
  call("POST", "/api/v1/jobs", {
    files: files.map((file) => ({ filename: file.name, size: file.size, content_type: file.type || undefined })),
  });

export const getJob = (id) => call("GET", jobPath(id));
export const cancelJob = (id) => call("POST", `${jobPath(id)}/cancel`);
export const retryJob = (id) => call("POST", `${jobPath(id)}/retry`);
export const deleteJob = (id) => call("DELETE", jobPath(id));
export const getResult = (id, file) => call("GET", `${jobPath(id)}/files/${encodeURIComponent(file)}/result`);
export const getWebhooks = (id) => call("GET", `${jobPath(id)}/webhooks`);

/** One page of the jobs of this key, newest first. */
export function listJobs({ status, since, limit = 20, cursor }) {
  const query = new URLSearchParams({ limit });
  if (status) query.set("status", status);
  if (since) query.set("created_after", since);
  if (cursor) query.set("cursor", cursor);
  return call("GET", `/api/v1/jobs?${query}`);
}

/** A link to one event stream of all these jobs, and the ids of those that exist. */
export const createStreamLink = (jobs) => call("POST", "/api/v1/progress/ticket", { jobs });
