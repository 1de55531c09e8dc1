// Calls to the service with the key of this browser tab.

const STORAGE_KEY = "i2m.key";

/** What the service refused, or that it did not answer (status 0). */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key this tab uses; `fallback` until another one is set. */
export function loadKey(defaultKey) {
  if (sessionStorage.getItem(STORAGE_KEY) === null) sessionStorage.setItem(STORAGE_KEY, defaultKey);
  return sessionStorage.getItem(STORAGE_KEY);
}

export function setKey(key) {
  sessionStorage.setItem(STORAGE_KEY, key);
}

export const hasKey = () => Boolean(sessionStorage.getItem(STORAGE_KEY));

/** Calls `path`; the answer's JSON, or a Problem. A report that all is not well is an answer, too. */
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
      throw new ApiError(0, "This API key holds characters that no key has.");
    }
    throw new ApiError(0, "The service does not answer.");
  }
  const json = await response.json().catch(() => ({}));
  if (response.ok || allowedStatuses.includes(response.status)) return json;
  throw new ApiError(response.status, json.detail || `The service answered ${response.status}.`);
}

const jobPath = (id) => `/api/v1/jobs/${encodeURIComponent(id)}`;

/** Whose key this is, and its roles. */
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

/** Own jobs, newest first; a page of them. */
export function listJobs({ status, since, limit = 20, cursor }) {
  const query = new URLSearchParams({ limit });
  if (status) query.set("status", status);
  if (since) query.set("created_after", since);
  if (cursor) query.set("cursor", cursor);
  return call("GET", `/api/v1/jobs?${query}`);
}

/** A link to the one stream of all these jobs, and those of them that there are. */
export const createStreamLink = (jobs) => call("POST", "/api/v1/progress/ticket", { jobs });
