// The panel with everything about one device: what it reported, what it runs and ran, its policy, and what to do with it.
import { get, send } from "/static/api.js";
import { sparkline } from "/static/charts.js";
import { attributes, element, facts, objectLink, pill, table } from "/static/dom.js";
import { batteryOf, clockTime, duration, percent, secondsBetween, size } from "/static/format.js";
import { actionButton, closePanel, confirmed, notice, openPanel } from "/static/panel.js";
import { onEvent, refreshSoon } from "/static/store.js";

const AGAIN_MS = 4000;
const ATTEMPTS_SHOWN = 40;
const WINDOWS = [["2h", "2 hours"], ["7d", "7 days"], ["90d", "90 days"]];
const GRAPHS = [
  { name: "cpu_usage", title: "CPU", tone: "", top: 100, say: percent },
  { name: "memory_usage", title: "Memory", tone: "busy", top: 100, say: percent },
  { name: "active_tasks", title: "Tasks", tone: "good", top: null, say: (value) => (typeof value === "number" ? String(Number(value.toFixed(1))) : "–") },
  { name: "temperature", title: "Heat", tone: "bad", top: 100, say: (value) => (typeof value === "number" ? `${value.toFixed(0)} °C` : "–") },
  { name: "battery_level", title: "Battery", tone: "wait", top: 100, say: percent },
  { name: "network_received_bytes_per_s", title: "Received", tone: "", top: null, say: (value) => (typeof value === "number" ? `${size(value)}/s` : "–") },
];
let current = null;

/** Open the panel for a device; `closed` is called when it no longer shows it. */
export function showDevice(deviceId, closed) {
  const parts = Object.fromEntries(["head", "about", "graphs", "runs", "policy", "past"].map((name) => [name, element("section", "part")]));
  parts.head.append(element("p", "empty", "Loading…"));
  const view = { deviceId, parts, drawn: {}, timer: 0, window: "2h" };
  openPanel(deviceId, element("div", "", ...Object.values(parts)), () => {
    clearTimeout(view.timer);
    if (current === view) current = null;
    closed();
  });
  current = view;
  load(view);
}

async function load(view) {
  clearTimeout(view.timer);
  const id = encodeURIComponent(view.deviceId);
  try {
    const [device, history, past] = await Promise.all([
      get(`devices/${id}`), get(`devices/${id}/metrics?window=${view.window}`),
      get(`attempts?device=${id}&window=24h&limit=${ATTEMPTS_SHOWN}`).catch(() => ({ attempts: [] })),
    ]);
    if (current !== view) return;
    part(view, "head", [device.status, device.reason, device.draining, device.cordoned, device.paused?.reason], () => headParts(view, device));
    part(view, "about", { ...device, last_seen_s: 0, last_seen_at: 0, paused: 0, wake: 0 }, () => [aboutPart(device)]);
    part(view, "graphs", history, () => graphParts(view, history));
    part(view, "runs", device.attempts, () => runParts(device));
    part(view, "policy", [device.policy, device.policy_untold], () => policyParts(device));
    part(view, "past", past.attempts.map((each) => [each.task_id, each.epoch, each.outcome]), () => pastParts(past.attempts));
    view.timer = setTimeout(() => load(view), AGAIN_MS);
  } catch (error) {
    if (current !== view) return;
    part(view, "head", error.message, () => [element("p", "bad", error.message)]);
    if (error.status !== 404) view.timer = setTimeout(() => load(view), 2 * AGAIN_MS);
  }
}

onEvent((event) => {
  if (!current || event.device_id !== current.deviceId) return;
  clearTimeout(current.timer);
  const view = current;
  view.timer = setTimeout(() => load(view), 300);
});

function part(view, name, data, make) {
  const signature = JSON.stringify(data ?? null);
  if (view.drawn[name] === signature) return;
  view.drawn[name] = signature;
  view.parts[name].replaceChildren(...make());
}

function headParts(view, device) {
  const state = element("div", "panel-state", pill(device.status), device.reason ? element("span", "sub", device.reason) : null);
  return [state, element("div", "actions", ...actionsOf(view, device))];
}

function actionsOf(view, device) {
  const path = `devices/${encodeURIComponent(device.device_id)}`;
  const act = (verb) => async () => {
    const done = await send("POST", `${path}/${verb}`, {});
    refreshSoon();
    load(view);
    return done;
  };
  const asked = (verb, question, detail, label) => async () => {
    if (await confirmed(question, detail, label)) await act(verb)();
  };
  const id = device.device_id;
  const away = ["offline", "disconnected", "asleep"].includes(device.status);
  const drain = asked("drain", `Drain ${id}?`, "It gets no new tasks; what runs there ends first.", "Drain it");
  const cordon = asked("cordon", `Cordon ${id}?`, "It gets no new tasks until a person says otherwise, also after it comes back.", "Cordon it");
  return [
    device.draining ? actionButton("Undrain", act("undrain")) : actionButton("Drain", drain),
    device.cordoned ? actionButton("Uncordon", act("uncordon")) : actionButton("Cordon", cordon),
    ["suspect", "quarantined"].includes(device.status) ? actionButton("Trust it again", act("release")) : null,
    away ? null : actionButton("Ping", async () => {
      const answer = await act("ping")();
      notice(`${id} answered within ${answer.round_trip_ms.toFixed(0)} ms.`);
    }),
    device.wake?.possible && away ? actionButton("Wake", act("wake")) : null,
    away ? actionButton("Remove", async () => {
      if (!(await confirmed(`Remove ${id}?`, "The main forgets it, with its history. It may join again.", "Remove it"))) return;
      await send("DELETE", path);
      notice(`${id} was removed.`);
      refreshSoon();
      closePanel();
    }, "button danger") : null,
  ].filter(Boolean);
}

function aboutPart(device) {
  const battery = batteryOf(device);
  const fact = (name) => device.profile?.[name]?.value;
  return facts([
    ["model", fact("model")],
    ["system", [fact("os_name") ?? device.platform, device.architecture].filter(Boolean).join(" · ")],
    ["role", device.role],
    ["processor", [fact("cpu_model"), device.cpu_cores ? `${device.cpu_cores} cores` : ""].filter(Boolean).join(", ")],
    ["memory", [size(device.memory_bytes), typeof device.memory_usage === "number" ? `${percent(device.memory_usage)} in use` : ""].filter(Boolean).join(", ")],
    ["storage", [size(device.storage_bytes), typeof device.disk_usage === "number" ? `${percent(device.disk_usage)} in use` : ""].filter(Boolean).join(", ")],
    ["battery", battery ? `${battery.level.toFixed(0)} %${battery.charging === true ? ", charging" : battery.charging === false ? ", in use" : ""}` : ""],
    ["heat", typeof device.temperature === "number" ? `${device.temperature.toFixed(0)} °C` : ""],
    ["slots", `${device.running} of ${device.slots} busy`],
    ["ended here", `${device.completed.toLocaleString("en")} well, ${device.failed.toLocaleString("en")} badly`],
    ["isolation", `up to level ${device.isolation}`],
    ["trust", device.trust < 1 ? device.trust.toFixed(2) : ""],
    ["first seen", clockTime(device.first_seen_at)],
    ["problems", (device.metrics?.problems ?? []).join("; ")],
    ["left alone", device.rest ? `${device.rest.reason} until ${clockTime(device.rest.until)}` : ""],
  ]);
}

function graphParts(view, history) {
  const choice = attributes(element("select", ""), { "aria-label": "How far back" });
  for (const [value, text] of WINDOWS) {
    const option = element("option", "", text);
    option.value = value;
    option.selected = value === view.window;
    choice.append(option);
  }
  choice.addEventListener("change", () => {
    view.window = choice.value;
    load(view);
  });
  const head = element("div", "heading", element("h3", "", "What it reported"), choice);
  const known = GRAPHS.filter((graph) => history.points.some((point) => typeof point[graph.name] === "number"));
  if (!known.length) return [head, element("p", "empty", "Nothing was reported in that time.")];
  return [head, element("div", "sparks", ...known.map((graph) => graphPart(graph, history.points)))];
}

function graphPart(graph, points) {
  const values = points.map((point) => point[graph.name]);
  const known = values.filter((value) => typeof value === "number");
  const now = graph.say(known.at(-1));
  const range = `${graph.say(Math.min(...known))} to ${graph.say(Math.max(...known))}`;
  const drawing = sparkline(values, `${graph.title}: now ${now}, from ${range}`, graph.tone, graph.top);
  return element("figure", "spark-box", element("figcaption", "", graph.title, element("b", "", now)), drawing, element("span", "sub", range));
}

function runParts(device) {
  if (!device.attempts.length) return [];
  const rows = device.attempts.map((each) => element("li", "", objectLink("tasks", each.task_id, each.name || each.task_id), " ", pill(each.status)));
  return [element("h3", "", "Runs now"), element("ul", "plain", ...rows)];
}

function policyParts(device) {
  if (!device.policy.length) return [];
  const untold = device.policy_untold.length ? element("p", "sub", `It cannot tell: ${device.policy_untold.join(", ")}.`) : null;
  const rules = device.policy.map((each) => element("li", "mono", each));
  return [element("h3", "", "Its owner's policy"), element("ul", "plain", ...rules), untold].filter(Boolean);
}

function pastParts(attempts) {
  if (!attempts.length) return [];
  const listed = attempts.map((each) => [
    objectLink("tasks", each.task_id, each.name || each.task_id), pill(each.outcome ?? each.status),
    element("td", "nowrap", clockTime(each.started_at ?? each.granted_at)),
    element("td", "nowrap", each.started_at ? duration(secondsBetween(each.started_at, each.finished_at)) : ""),
  ]);
  return [element("h3", "", "Attempts of the last day"), table(["Task", "Outcome", "Began", "Ran"], listed, "Attempts of the last day")];
}
