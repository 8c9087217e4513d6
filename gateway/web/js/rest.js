// REST snapshots. Nobody asks while the link is away, so nothing is asked of a gateway that is not there.

import { getToken } from "./session.js";
import { link } from "./link.js";

const TRIES = 3;

export class RestError extends Error {
  constructor(status, body) {
    super(body.detail || `HTTP ${status}`);
    this.status = status;
    this.code = body.code;
    this.near = body.near ?? [];
  }
}

/** GET `path` with `params` (null ones left out); returns the decoded body, throws RestError, or AbortError. */
export async function get(path, params = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  for (let attempt = 1; ; attempt += 1) {
    const token = getToken();
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const response = await fetch(text ? `${path}?${text}` : path, { headers, signal, cache: "no-store" });
    if (response.ok) return response.json();
    const body = await response.json().catch(() => ({}));
    if (response.status === 401) link.refuse(body.detail ?? "the token was refused");
    if ((response.status !== 429 && response.status !== 503) || attempt === TRIES) {
      throw new RestError(response.status, body);
    }
    await pause(Math.min(10, Number(response.headers.get("Retry-After")) || attempt), signal);
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
