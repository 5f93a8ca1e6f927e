// What the main is asked, and what it tells by itself.

/** The data of GET /api/v1/`path`. Throws an Error whose message is for people, with the answer's `status`. */
export async function get(path) {
  const response = await fetch(`/api/v1/${path}`, { headers: { Accept: "application/json" }, cache: "no-cache" });
  const document = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(document.detail || `the main answered ${response.status}`), { status: response.status });
  }
  return document.data;
}

/** Follow the event log. `onEvent(event)` for each, `onLive(flag)` when the connection comes and goes. */
export function follow(onEvent, onLive) {
  const source = new EventSource("/stream/events");
  const told = (message) => onEvent(JSON.parse(message.data));
  source.addEventListener("task_update", told);
  source.addEventListener("device_update", told);
  source.addEventListener("reset", () => onEvent(null));
  source.onopen = () => onLive(true);
  source.onerror = () => {
    onLive(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(onEvent, onLive), 5000);
  };
}
