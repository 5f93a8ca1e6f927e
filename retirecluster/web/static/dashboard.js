// The page for looking: keeps what the main said last, and draws it.
import { follow, get } from "/static/api.js";
import { showTask } from "/static/details.js";
import { bar, byId, clockTime, duration, element, pill, replaceKeyed, toneOf } from "/static/dom.js";

const POLL_MS = 3000;
const DRAW_MS = 300;
const EVENTS_SHOWN = 80;
const RUNNING_SHOWN = 40;
const seen = { status: null, devices: [], running: [], tasks: [], events: [], live: false, error: "" };

// -- drawing

function drawHeader() {
  const { status, error } = seen;
  const dot = byId("state-dot");
  byId("live").textContent = seen.live ? "live" : "not live, trying again";
  if (error || !status) {
    dot.className = "dot bad";
    byId("state-text").textContent = error || "Connecting…";
    return;
  }
  const online = status.devices.online ?? 0;
  dot.className = `dot ${status.state === "running" ? "good" : "wait"}`;
  byId("state-text").textContent = `${status.state} · ${online} of ${status.devices.total} devices online`;
  document.title = `${status.state} · ${online}/${status.devices.total} · retire-cluster`;
  byId("footer").textContent =
    `retire-cluster ${status.version} · ${status.cluster_id} · up ${duration(status.uptime_s)} · event ${status.event_no}`;
}

function drawFigures() {
  const { status } = seen;
  if (!status) return;
  const tasks = status.tasks;
  const waiting = tasks.blocked + tasks.queued + tasks.retrying + tasks.held + tasks.assigned;
  const failed = tasks.failed + tasks.expired + tasks.lost;
  const figures = [
    { name: "online", value: status.devices.online ?? 0, of: status.devices.total },
    { name: "slots busy", value: status.slots.busy, of: status.slots.total },
    { name: "waiting", value: waiting },
    { name: "running", value: tasks.running + tasks.cancelling },
    { name: "completed", value: tasks.completed },
    { name: "failed", value: failed, tone: failed ? "bad" : "" },
    { name: "cancelled", value: tasks.cancelled },
    { name: "tasks/s", value: Number(status.throughput_per_s.toFixed(status.throughput_per_s < 10 ? 2 : 0)) },
  ];
  replaceKeyed(byId("figures"), figures, (each) => each.name, (each) => {
    const of = each.of === undefined ? null : element("span", "of", ` / ${each.of.toLocaleString()}`);
    return element("div", "", element("dt", "", each.name), element("dd", each.tone ?? "", each.value.toLocaleString(), of));
  });
}

function meter(label, percent, text, kind) {
  return element("div", "meter", element("span", "", label), bar(percent, label, kind), element("span", "value", text));
}

const percentText = (percent) => (typeof percent === "number" ? `${percent.toFixed(0)} %` : "–");

function extras(device) {
  const battery = typeof device.battery === "object" && device.battery ? device.battery.level : device.battery;
  return [
    typeof device.temperature === "number" ? `${device.temperature.toFixed(0)} °C` : null,
    typeof battery === "number" ? `battery ${battery.toFixed(0)} %` : null,
    device.assigned > device.running ? `${device.assigned - device.running} next` : null,
    device.completed ? `${device.completed.toLocaleString()} done` : null,
    device.failed ? `${device.failed.toLocaleString()} failed` : null,
  ].filter(Boolean).join(" · ");
}

function deviceCard({ device, runs }) {
  const about = [device.role, device.platform, device.architecture].filter(Boolean).join(" · ");
  const slots = device.slots ? (100 * device.running) / device.slots : null;
  const away = device.status === "offline" || device.status === "asleep" || device.status === "disconnected";
  const more = extras(device);
  return element(
    "li", `card${away ? " away" : ""}`,
    element("div", "card-head", element("span", "name", device.device_id), pill(device.status)),
    element("div", "sub", about || "nothing known of it"),
    element(
      "div", "meters",
      meter("slots", slots, `${device.running} / ${device.slots}`, "busy"),
      meter("CPU", device.cpu_usage, percentText(device.cpu_usage)),
      meter("memory", device.memory_usage, percentText(device.memory_usage)),
    ),
    more ? element("div", "sub", more) : null,
    device.reason ? element("div", "sub", device.reason) : null,
    runs.length ? element("div", "runs", ...runs.map((task) => taskButton(task, "chip"))) : null,
  );
}

function taskButton(task, className) {
  const button = element("button", className, task.name || task.task_id);
  button.type = "button";
  button.title = task.task_id;
  button.dataset.focus = task.task_id;
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    showTask(task.task_id);
  });
  return button;
}

function drawDevices() {
  const runs = Map.groupBy ? Map.groupBy(seen.running, (task) => task.device_id) : grouped(seen.running);
  const items = seen.devices.map(({ last_seen_s: _, last_seen_at: __, uptime_s: ___, ...device }) => ({
    device,
    runs: (runs.get(device.device_id) ?? []).slice(0, 6).map(({ task_id, name }) => ({ task_id, name })),
  }));
  replaceKeyed(byId("devices"), items, (each) => each.device.device_id, deviceCard);
  byId("devices-empty").hidden = !seen.status || items.length > 0;
  byId("devices-count").textContent = items.length ? String(items.length) : "";
}

function grouped(tasks) {
  const found = new Map();
  for (const task of tasks) found.set(task.device_id, [...(found.get(task.device_id) ?? []), task]);
  return found;
}

function runningRow(task) {
  const percent = task.progress?.percent;
  const known = typeof percent === "number";
  const track = element("div", "track", bar(known ? percent : null, "progress", "busy"));
  if (task.progress?.message) track.append(element("div", "message", task.progress.message));
  return element(
    "li", "",
    element("div", "", taskButton(task, "link"), element("div", "sub", task.task_type)),
    element("div", "sub text where", task.device_id ?? ""),
    track,
    element("div", "right", known ? `${percent.toFixed(0)} %` : task.status === "assigned" ? "next" : task.status),
  );
}

function drawRunning() {
  const ahead = (task) => (task.status === "assigned" ? 1 : 0);
  seen.running.sort((one, other) => ahead(one) - ahead(other));
  replaceKeyed(byId("running"), seen.running, (task) => task.task_id, runningRow);
  byId("running-empty").hidden = seen.running.length > 0;
  const tasks = seen.status?.tasks;
  const all = tasks ? tasks.running + tasks.assigned + tasks.cancelling : 0;
  byId("running-count").textContent = all > seen.running.length ? `${seen.running.length} of ${all}` : all ? String(all) : "";
}

function taskTime(task) {
  if (!task.started_at) return "";
  if (!task.finished_at) return "";
  return duration((new Date(task.finished_at) - new Date(task.started_at)) / 1000);
}

function taskRow(task) {
  const status = element("td", "", pill(task.status));
  if (task.reason) status.append(element("span", "sub", task.reason));
  const row = element(
    "tr", "opens",
    element("td", "", taskButton(task, "link"), task.name ? element("span", "sub mono", task.task_id) : null),
    element("td", "", task.task_type),
    status,
    element("td", "text", task.device_id ?? ""),
    element("td", "nowrap", taskTime(task)),
    element("td", "nowrap", clockTime(task.created_at)),
  );
  row.addEventListener("click", () => showTask(task.task_id));
  return row;
}

function drawTasks() {
  replaceKeyed(byId("tasks"), seen.tasks, (task) => task.task_id, taskRow);
  byId("tasks-empty").hidden = !seen.status || seen.tasks.length > 0;
}

const WORDS = { grant: "given out", result_ok: "completed", result_failed: "failed", died: "lost its device" };

/** Names of tasks by id, as far as they were heard of; events other than the first carry the id alone. */
const names = new Map();
function learnNames(tasks) {
  for (const task of tasks) if (task.name && task.task_id) names.set(task.task_id, task.name);
  while (names.size > 2000) names.delete(names.keys().next().value);
}

function eventRow(event) {
  const subject = names.get(event.task_id) || event.task_id || event.device_id || "";
  const where = event.task_id && event.device_id ? ` on ${event.device_id}` : "";
  const time = element("time", "", clockTime(event.at));
  const word = element("span", toneOf(event.status), WORDS[event.event] ?? event.event.replaceAll("_", " "));
  return element(
    "li", "", time, element("span", "what", `${subject} `, word, where),
    event.reason ? element("span", "why", event.reason) : null,
  );
}

function drawEvents() {
  const signature = (event) => `${event.event_no} ${names.get(event.task_id) ?? ""}`;
  replaceKeyed(byId("events"), seen.events, (event) => event.event_no, eventRow, signature);
  byId("events-empty").hidden = seen.events.length > 0;
}

let drawing = 0;
/** Draw soon; many calls in a short time are one drawing. */
function draw() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    for (const part of [drawHeader, drawFigures, drawDevices, drawRunning, drawTasks, drawEvents]) part();
  }, DRAW_MS / 3);
}

// -- asking

let recalled = false;
/** Once, fill the list of events with those before this page was opened. */
async function recall(lastNo) {
  if (recalled) return;
  recalled = true;
  const { events } = await get(`events?after=${Math.max(0, lastNo - EVENTS_SHOWN / 2)}&limit=${EVENTS_SHOWN}`);
  const known = new Set(seen.events.map((event) => event.event_no));
  learnNames(events);
  seen.events = [...seen.events, ...events.filter((event) => !known.has(event.event_no)).reverse()];
}

async function refresh() {
  const filter = byId("tasks-filter").value;
  try {
    const [status, devices, running, tasks] = await Promise.all([
      get("cluster/status"),
      get("devices"),
      get(`tasks?status=running,assigned,cancelling&limit=${RUNNING_SHOWN}`),
      get(`tasks?limit=40${filter ? `&status=${filter}` : ""}`),
    ]);
    await recall(status.event_no);
    learnNames([...tasks.tasks, ...running.tasks]);
    Object.assign(seen, { status, devices: devices.devices, running: running.tasks, tasks: tasks.tasks, error: "" });
  } catch (error) {
    seen.error = error.status ? error.message : "The main does not answer.";
  }
  draw();
}

let asking = false;
let asked = 0;
/** Ask soon, at most once at a time and not more often than drawing needs. */
async function refreshSoon() {
  if (asking) return;
  asking = true;
  await new Promise((done) => setTimeout(done, Math.max(0, asked + 2 * DRAW_MS - Date.now())));
  asked = Date.now();
  await refresh();
  asking = false;
}

function onEvent(event) {
  if (event) learnNames([event]);
  if (event) seen.events = [event, ...seen.events].slice(0, EVENTS_SHOWN);
  draw();
  if (!document.hidden) refreshSoon();
}

function onLive(live) {
  seen.live = live;
  draw();
  if (live) refreshSoon();
}

byId("tasks-filter").addEventListener("change", refresh);
document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());
setInterval(() => document.hidden || refreshSoon(), POLL_MS);
follow(onEvent, onLive);
refresh();
