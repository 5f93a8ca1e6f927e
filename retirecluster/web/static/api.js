// What the main is asked, what it is told to do, and what it tells by itself.
import { signIn } from "/static/session.js";

/** The data of GET /api/v1/`path`. Throws an Error whose message is for people, with the answer's `status`. */
export const get = (path) => ask("GET", path);

/** Change something; asks for the token where one is needed. Throws as `get`; `errors` are those of fields. */
export async function send(method, path, body) {
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (error.status !== 401 || !(await signIn(error.message))) throw error;
    return ask(method, path, body);
  }
}

async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const asked = { method, headers, cache: "no-cache", body: body === undefined ? undefined : JSON.stringify(body) };
  const response = await fetch(`/api/v1/${path}`, asked).catch(() => {
    throw Object.assign(new Error("The main does not answer."), { status: 0, errors: [] });
  });
  const document = await response.json().catch(() => ({}));
  if (!response.ok) {
    const message = document.detail || `the main answered ${response.status}`;
    throw Object.assign(new Error(message), { status: response.status, errors: document.errors ?? [] });
  }
  return document.data ?? null;
}

/**
 * Follow the event log. `onEvent(event)` for each (null: some were missed), `onLive(flag)` when the connection comes and
 * goes. Call the answer to stop: a browser has six connections for a site and all its pages, and each that is forgotten counts.
 */
export function follow(onEvent, onLive) {
  let source = null;
  let timer = 0;
  const told = (message) => onEvent(JSON.parse(message.data));
  const open = () => {
    source = new EventSource("/stream/events");
    for (const name of ["task_update", "device_update", "cluster_update"]) source.addEventListener(name, told);
    source.addEventListener("reset", () => onEvent(null));
    source.onopen = () => onLive(true);
    source.onerror = () => {
      onLive(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 5000);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

/** Follow what a task prints. `onPiece({seq, stream, data, epoch})`, `onReset()` to begin anew, `onEnd(result)`. Call the answer to stop. */
export function followOutput(taskId, onPiece, onReset, onEnd) {
  const source = new EventSource(`/stream/tasks/${encodeURIComponent(taskId)}/output`);
  source.addEventListener("output", (message) => onPiece(JSON.parse(message.data)));
  source.addEventListener("reset", onReset);
  source.addEventListener("end", (message) => {
    source.close();
    onEnd(JSON.parse(message.data));
  });
  return () => source.close();
}
