// The service's calls. The key lives in this module's memory alone.

let key = null;

/** An answer that is no success, in the server's own words. */
export class Refusal extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || problem.title || `the service answered ${status}`);
    this.status = status;
    this.code = problem.code || "";
    this.retryAfter = retryAfter;
  }
}

export function useKey(text) {
  key = text;
}

/** Ask, and return the response; what is no success is thrown. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "same-origin", referrerPolicy: "no-referrer" });
  } catch {
    throw new Refusal(0, { detail: "the service cannot be reached; it may be starting again. Try again in a moment" });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refusal(response.status, problem, response.headers.get("Retry-After"));
}

const json = async (path, options) => (await ask(path, options)).json();

const query = (members) => {
  const text = new URLSearchParams(Object.entries(members).filter(([, value]) => value)).toString();
  return text ? `?${text}` : "";
};

const body = (file) => ({
  method: "POST",
  body: file,
  headers: { "Content-Type": file.type || "application/octet-stream" },
});

export const models = () => json("models");
export const status = () => json("status");
export const statistics = (version) => json(`attention${query(version)}`);
export const record = (id) => json(`attention/${encodeURIComponent(id)}`);
export const predict = (file, version) =>
  json(`predict${query({ ...version, attention: "true", top_k: "5" })}`, body(file));
export const inspect = (file, version) => json(`inspect${query(version)}`, body(file));
export const preprocess = async (file, version) =>
  (await ask(`preprocess${query(version)}`, body(file))).blob();
