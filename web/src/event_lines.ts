// One event as one line for people.
import type { StreamEvent } from "./events";
import { safeLine } from "./safe_text";

const SGR: Readonly<Record<string, string>> = { good: "32", busy: "36", wait: "33", bad: "31" };
const TONES: Readonly<Record<string, string>> = {
  completed: "good", online: "good", running: "busy", assigned: "busy", retrying: "wait", held: "wait",
  cancelling: "wait", draining: "wait", paused: "wait", cordoned: "wait", disconnected: "wait", suspect: "wait",
  failed: "bad", lost: "bad", expired: "bad", offline: "bad", quarantined: "bad",
};
const SAID = new Set(["event_no", "at", "event", "task_id", "device_id", "status", "epoch"]);

/** Text that stands back: a colour of the theme, which can be read in each of them. */
export const dim = (text: string) => `\x1b[90m${text}\x1b[39m`;

/** A status word in the colour of what it says. */
export function toned(word: string): string {
  const tone = SGR[TONES[word] ?? ""];
  return tone ? `\x1b[${tone}m${word}\x1b[39m` : word;
}

function clock(at: unknown): string {
  const when = typeof at === "number" ? new Date(at * 1000) : typeof at === "string" ? new Date(at) : new Date();
  return Number.isNaN(when.getTime()) ? "" : when.toLocaleTimeString("en-GB");
}

function simple(value: unknown): string {
  if (typeof value === "number") return String(Math.round(value * 100) / 100);
  return typeof value === "string" || typeof value === "boolean" ? String(value) : "";
}

function figures(data: Record<string, unknown>): string {
  return Object.entries(data)
    .filter(([name, value]) => !SAID.has(name) && simple(value) !== "")
    .map(([name, value]) => `${name} ${simple(value)}`)
    .join(", ");
}

/** `12:00:05  task-abc started  running on pixel-3  reason …`, or the event as JSON. */
export function eventLine(event: StreamEvent, format: string): string {
  const { name, data } = event;
  if (format === "json") return safeLine(JSON.stringify({ event: name, data }));
  const heartbeat = data.system_metrics;
  const rest = heartbeat && typeof heartbeat === "object" ? (heartbeat as Record<string, unknown>) : data;
  const words = (simple(data.event) || name).replaceAll("_", " ");
  const status = simple(data.status);
  const parts = [
    dim(clock(data.at)),
    safeLine(simple(data.task_id) || simple(data.device_id)),
    safeLine(words),
    status && status !== words ? toned(safeLine(status)) : "",
    data.task_id && data.device_id ? `on ${safeLine(simple(data.device_id))}` : "",
    dim(safeLine(figures(rest))),
  ];
  return parts.filter((each) => each && each !== dim("")).join("  ");
}
