// Calls to the service with the key of this browser tab.

const KEY = "i2m.key";

/** What the service refused, or that it did not answer. */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key this tab uses; `fallback` until another one is set. */
export function useKey(fallback) {
  if (sessionStorage.getItem(KEY) === null) sessionStorage.setItem(KEY, fallback);
  return sessionStorage.getItem(KEY);
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Calls `path`; the answer's JSON, or a Problem. */
export async function call(method, path, body) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error instanceof TypeError && /ISO-8859-1|ByteString|header/i.test(error.message)) {
      throw new Problem(0, "This API key holds characters that no key has.");
    }
    throw new Problem(0, "The service does not answer.");
  }
  const json = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, json.detail || `The service answered ${response.status}.`);
  return json;
}

export const createJob = (files) =>
  call("POST", "/api/v1/jobs", {
    files: files.map((it) => ({ filename: it.name, size: it.size, content_type: it.type || undefined })),
  });

export const getJob = (id) => call("GET", `/api/v1/jobs/${encodeURIComponent(id)}`);

export const getResult = (job, file) => call("GET", `${job.links.self}/files/${encodeURIComponent(file.id)}/result`);

/** Own jobs, newest first; a page of them. */
export function listJobs(status, cursor) {
  const query = new URLSearchParams({ limit: "20" });
  if (status) query.set("status", status);
  if (cursor) query.set("cursor", cursor);
  return call("GET", `/api/v1/jobs?${query}`);
}
