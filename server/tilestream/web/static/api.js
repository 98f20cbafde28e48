// What this page asks its server for.

const VIEWER = [...crypto.getRandomValues(new Uint8Array(12))]
  .map((byte) => byte.toString(16).padStart(2, "0"))
  .join("");
const KEPT = "tilestream-token"; // until the tab is closed

/** An answer that says no. `status`: 401, 404, 429 and so on; 0 where there was none at all. */
export class Refused extends Error {
  constructor(status, message, retrySeconds) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
}

export const hasToken = () => sessionStorage.getItem(KEPT) !== null;

async function get(path, parameters, signal) {
  const token = sessionStorage.getItem(KEPT);
  const query = new URLSearchParams({ viewer: VIEWER, ...parameters });
  let response;
  try {
    response = await fetch(`api/${path}?${query}`, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      cache: "no-store",
      redirect: "error",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The server does not answer.", 2);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(
    response.status,
    told.error ?? response.statusText,
    Number(response.headers.get("Retry-After") ?? 2),
  );
}

/** What does not change: version, models, whether there are pictures. */
export const server = async () => (await get("server", {})).json();

/** How it is doing, and the live sessions. */
export const live = async (signal) => (await get("sessions", {}, signal)).json();

/** The camera's next picture after a frame: {about, frame, labels}, the latter two as blobs; null: none came yet. */
export async function picture(session, after, bins, signal) {
  const parameters = { after, ...(bins ? { bins: 1 } : {}) };
  const response = await get(`sessions/${encodeURIComponent(session)}/picture`, parameters, signal);
  if (response.status === 204) return null;
  const form = await response.formData();
  const about = JSON.parse(await form.get("about").text());
  return { about, frame: form.get("frame"), labels: form.get("labels") };
}
