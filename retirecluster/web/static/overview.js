// The first screen: figures, charts, devices, what runs, the newest tasks, and what happened.
import { get } from "/static/api.js";
import { drawAlerts } from "/static/alerts.js";
import { drawCharts } from "/static/charts.js";
import { drawCards, drawTiles, MANY, runsByDevice } from "/static/devices.js";
import { bar, byId, element, objectLink, replaceKeyed, toneOf } from "/static/dom.js";
import { clockTime, duration, figure, millis, secondsBetween } from "/static/format.js";
import { draw, learnNames, names, seen } from "/static/store.js";
import { taskRow } from "/static/tasks.js";

const RUNNING_SHOWN = 40;
const TASKS_SHOWN = 20;
const CHART_MS = 10000;
const shown = { running: [], tasks: [], points: [], devices: null, asked: 0 };

/** Ask what only this screen shows. */
export async function askOverview() {
  const filter = byId("tasks-filter").value;
  const wantsPoints = Date.now() - shown.asked > CHART_MS;
  if (wantsPoints) shown.asked = Date.now();
  const [running, tasks, history] = await Promise.all([
    get(`tasks?status=running,assigned,cancelling&limit=${RUNNING_SHOWN}`),
    get(`tasks?limit=${TASKS_SHOWN}${filter ? `&status=${filter}` : ""}`),
    wantsPoints ? get("cluster/history") : null,
  ]);
  learnNames([...tasks.tasks, ...running.tasks]);
  Object.assign(shown, { running: running.tasks, tasks: tasks.tasks, points: history?.points ?? shown.points });
}

/** The tasks that run, as far as they are shown. */
export const running = () => shown.running;

let left = [];
/** Draw all of it; where there is much, a part a frame, so that no frame takes long. */
export function drawOverview() {
  const parts = [drawFigures, drawAlerts, drawTrends, drawRunning, drawTasks, drawEvents, drawDevices];
  if (seen.devices.length <= MANY) {
    for (const part of parts) part();
    return;
  }
  if (left.length) return; // the round that is under way draws what is new, too, or the next one does
  left = parts;
  const step = () => {
    left[0]();
    left = left.slice(1);
    if (left.length) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function drawFigures() {
  const { status } = seen;
  if (!status) return;
  const tasks = status.tasks;
  const waiting = tasks.blocked + tasks.queued + tasks.retrying + tasks.held + tasks.assigned;
  const failed = tasks.failed + tasks.expired + tasks.lost;
  const figures = [
    { name: "devices online", value: status.devices.online ?? 0, of: status.devices.total },
    { name: "slots busy", value: status.slots.busy, of: status.slots.total },
    { name: "running", value: tasks.running + tasks.cancelling },
    { name: "waiting", value: waiting },
    { name: "completed", value: tasks.completed },
    { name: "failed", value: failed, tone: failed ? "bad" : "" },
    { name: "cancelled", value: tasks.cancelled },
    { name: "tasks a second", value: figure(status.throughput_per_s) },
  ];
  replaceKeyed(byId("figures"), figures, (each) => each.name, (each) => {
    const of = each.of === undefined ? null : element("span", "of", ` / ${each.of.toLocaleString("en")}`);
    return element("div", "", element("dt", "", each.name), element("dd", each.tone ?? "", each.value.toLocaleString("en"), of));
  });
}

function drawTrends() {
  const { points } = shown;
  const times = points.map((each) => millis(each.at));
  const seconds = points.length > 1 ? (times.at(-1) - times[0]) / 1000 : 0;
  const span = duration(seconds < 120 ? seconds : 60 * Math.round(seconds / 60));
  const of = (name) => points.map((each) => each[name]);
  drawCharts(byId("trends"), points.length < 2 ? [] : [
    { title: "Throughput", unit: "tasks/s", times, span, series: [{ values: of("completed_per_s"), tone: "good" }, { values: of("failed_per_s"), tone: "bad" }] },
    { title: "Waiting", unit: "tasks", times, span, series: [{ values: of("waiting"), tone: "wait" }] },
    { title: "Wait before a start", unit: "s", times, span, series: [{ values: of("mean_wait_s"), tone: "busy" }] },
  ]);
  byId("trends-empty").hidden = points.length > 1;
}

function drawDevices() {
  const { devices } = seen;
  const many = devices.length > MANY;
  if (many && devices === shown.devices) return; // tiles show nothing but what was asked together
  shown.devices = devices;
  if (many) drawTiles(byId("devices"), devices);
  else drawCards(byId("devices"), devices, runsByDevice(shown.running));
  byId("devices-empty").hidden = !seen.status || devices.length > 0;
  byId("devices-count").textContent = devices.length ? devices.length.toLocaleString("en") : "";
}

function runningRow(task) {
  const done = task.progress?.percent;
  const known = typeof done === "number";
  const track = element("div", "track", bar(known ? done : null, "progress", "busy"));
  if (task.progress?.message) track.append(element("div", "message", task.progress.message));
  const state = known ? `${done.toFixed(0)} %` : task.status === "assigned" ? "next" : task.status;
  return element(
    "li", "",
    element("div", "what", objectLink("tasks", task.task_id, task.name || task.task_id), element("div", "sub", task.task_type)),
    element("div", "sub text where", task.device_id ? objectLink("devices", task.device_id) : ""),
    track,
    element("div", "right", state),
    element("div", "right since", task.started_at ? duration(task.seconds) : ""),
  );
}

function drawRunning() {
  const ahead = (task) => (task.status === "assigned" ? 1 : 0);
  const rows = shown.running.map((task) => ({ ...task, seconds: Math.round(secondsBetween(task.started_at) ?? 0) }));
  rows.sort((one, other) => ahead(one) - ahead(other));
  replaceKeyed(byId("running"), rows, (task) => task.task_id, runningRow);
  byId("running-empty").hidden = rows.length > 0;
  const tasks = seen.status?.tasks;
  const all = tasks ? tasks.running + tasks.assigned + tasks.cancelling : 0;
  byId("running-count").textContent = all > rows.length ? `${rows.length} of ${all.toLocaleString("en")}` : all ? String(all) : "";
}

function drawTasks() {
  replaceKeyed(byId("tasks"), shown.tasks, (task) => task.task_id, taskRow);
  byId("tasks-empty").hidden = !seen.status || shown.tasks.length > 0;
}

const WORDS = {
  grant: "given out", result_ok: "completed", result_failed: "failed", died: "lost its device", submit: "submitted",
  start: "started", backoff_over: "waits again",
};

function eventRow(event) {
  const time = element("time", "", clockTime(event.at));
  const word = element("span", toneOf(event.status), WORDS[event.event] ?? event.event.replaceAll("_", " "));
  const subject = event.task_id
    ? objectLink("tasks", event.task_id, names.get(event.task_id) || event.task_id)
    : event.device_id ? objectLink("devices", event.device_id) : "the cluster";
  const where = event.task_id && event.device_id ? ` on ${event.device_id}` : "";
  return element(
    "li", "", time, element("span", "what", subject, " ", word, where),
    event.reason ? element("span", "why", event.reason) : null,
  );
}

function drawEvents() {
  const list = byId("events");
  if (list.matches(":hover, :focus-within")) return; // it stands still for who reads or presses in it
  const signature = (event) => `${event.event_no} ${names.get(event.task_id) ?? ""}`;
  replaceKeyed(list, seen.events, (event) => event.event_no, eventRow, signature);
  byId("events-empty").hidden = seen.events.length > 0;
}

byId("tasks-filter").addEventListener("change", () => askOverview().then(draw, () => {}));
