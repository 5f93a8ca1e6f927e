// Devices as cards, as tiles where there are many, and as a table that can be sorted; the screen that has them all.
import { get } from "/static/api.js";
import { attributes, bar, byId, element, objectLink, pill, replaceKeyed, toneOf } from "/static/dom.js";
import { batteryOf, counted, duration, percent } from "/static/format.js";
import { seen } from "/static/store.js";

/** More devices than this are tiles. */
export const MANY = 24;
const ROWS_SHOWN = 200;
const AWAY = new Set(["offline", "asleep", "disconnected"]);

/** Tasks by the device that has them: name and progress. */
export function runsByDevice(tasks) {
  const found = new Map();
  for (const { task_id, name, device_id, status, progress } of tasks) {
    if (!found.has(device_id)) found.set(device_id, []);
    found.get(device_id).push({ task_id, name, status, percent: progress?.percent ?? null });
  }
  return found;
}

function meter(label, value, text, kind) {
  return element("div", "meter", element("span", "", label), bar(value, label, kind), element("span", "value", text));
}

/** One square for each slot, full where a task runs. */
function slots(device) {
  if (device.slots > 16) return meter("slots", (100 * device.running) / device.slots, `${device.running} / ${device.slots}`, "busy");
  const pips = attributes(element("div", "pips"), { role: "img", "aria-label": `${device.running} of ${counted(device.slots, "slot")} busy` });
  for (let slot = 0; slot < device.slots; slot += 1) pips.append(element("i", slot < device.running ? "full" : ""));
  return element("div", "meter", element("span", "", "slots"), pips, element("span", "value", `${device.running} / ${device.slots}`));
}

function extras(device) {
  const battery = batteryOf(device);
  const found = [];
  if (typeof device.temperature === "number") {
    found.push(element("span", device.temperature >= 80 ? "bad" : "", `${device.temperature.toFixed(0)} °C`));
  }
  if (battery) {
    const word = battery.charging === true ? ", charging" : battery.charging === false ? ", in use" : "";
    found.push(element("span", battery.level <= 15 && battery.charging === false ? "bad" : "", `battery ${battery.level.toFixed(0)} %${word}`));
  }
  if (device.assigned > device.running) found.push(element("span", "", `${device.assigned - device.running} next`));
  if (device.completed) found.push(element("span", "", `${device.completed.toLocaleString("en")} done`));
  if (device.failed) found.push(element("span", "", `${device.failed.toLocaleString("en")} failed`));
  return found;
}

const aboutOf = (device) => [device.role, device.platform, device.architecture].filter(Boolean).join(" · ");

/** A device with its meters and what it runs. */
function deviceCard({ device, runs }) {
  const more = extras(device);
  return element(
    "li", `card${AWAY.has(device.status) ? " away" : ""}`,
    element("div", "card-head", objectLink("devices", device.device_id, device.device_id, "name"), pill(device.status)),
    element("div", "sub", aboutOf(device) || "nothing known of it"),
    device.reason ? element("div", `reason ${toneOf(device.status)}`, device.reason) : null,
    element(
      "div", "meters",
      slots(device),
      meter("CPU", device.cpu_usage, percent(device.cpu_usage)),
      meter("memory", device.memory_usage, percent(device.memory_usage)),
    ),
    more.length ? element("div", "sub extras", ...more) : null,
    runs.length ? element("div", "runs", ...runs.map(runChip)) : null,
  );
}

/** Draw devices as cards with what they run. */
export function drawCards(list, devices, runs) {
  list.className = "cards";
  const items = devices.map(({ last_seen_s: _, last_seen_at: __, uptime_s: ___, ...device }) => ({
    device, runs: (runs.get(device.device_id) ?? []).slice(0, 4),
  }));
  replaceKeyed(list, items, (each) => each.device.device_id, deviceCard);
}

function runChip(run) {
  const chip = objectLink("tasks", run.task_id, "", "chip");
  chip.append(element("span", "chip-text", run.name || run.task_id));
  if (typeof run.percent === "number") chip.append(bar(run.percent, "progress", "busy"));
  return chip;
}

/** A device in little room: its state as a colour and a word for those who hear it, its load as a bar. */
function deviceTile(device) {
  const link = objectLink("devices", device.device_id, "", "tile");
  link.append(element("span", "tile-name", device.device_id), element("span", "tile-slots"), element("i", "tile-load"));
  const tile = element("li", "", link);
  tell(tile, device);
  return tile;
}

function tell(tile, device) {
  const [link] = tile.children;
  const [, slotsText, load] = link.children;
  const words = `${device.device_id}, ${device.status}${device.reason ? `: ${device.reason}` : ""}, ${device.running} of ${device.slots} busy, CPU ${percent(device.cpu_usage)}`;
  const look = `tile ${toneOf(device.status)}${AWAY.has(device.status) ? " away" : ""}`;
  if (link.className !== look) link.className = look;
  attributes(link, { "aria-label": words, title: words });
  slotsText.textContent = `${device.running}/${device.slots}`;
  load.style.setProperty("--part", `${Math.max(0, Math.min(100, device.cpu_usage ?? 0))}%`);
}

/** Draw devices as tiles; those that are there already are changed in place. */
export function drawTiles(list, devices) {
  list.className = "tiles";
  const items = devices.map(({ device_id, status, reason, running, slots: all, cpu_usage }) => ({ device_id, status, reason, running, slots: all, cpu_usage }));
  const told = (tile, device) => tile.firstElementChild.classList.contains("tile") && (tell(tile, device), true);
  replaceKeyed(list, items, (each) => each.device_id, deviceTile, JSON.stringify, told);
}

// -- the screen

const number = (value) => (typeof value === "number" ? value : -1);
const COLUMNS = [
  { name: "Device", key: (each) => each.device_id },
  { name: "Status", key: (each) => each.status },
  { name: "Role", key: (each) => each.role ?? "" },
  { name: "CPU", key: (each) => number(each.cpu_usage), right: true },
  { name: "Memory", key: (each) => number(each.memory_usage), right: true },
  { name: "Heat", key: (each) => number(each.temperature), right: true },
  { name: "Battery", key: (each) => number(batteryOf(each)?.level), right: true },
  { name: "Slots", key: (each) => each.running / Math.max(1, each.slots), right: true },
  { name: "Done", key: (each) => each.completed, right: true },
  { name: "Failed", key: (each) => each.failed, right: true },
  { name: "Seen", key: (each) => each.last_seen_s, right: true },
];
const view = { column: 0, down: false, all: false, runs: new Map() };

function shownDevices() {
  const text = byId("devices-search").value.trim().toLowerCase();
  const status = byId("devices-status").value;
  const found = seen.devices.filter((each) => (!status || each.status === status)
    && (!text || [each.device_id, each.role, each.platform, each.hostname, each.reason, ...each.tags].some((word) => word?.toLowerCase().includes(text))));
  const { key } = COLUMNS[view.column];
  const turn = view.down ? -1 : 1;
  return found.sort((one, other) => {
    const [left, right] = [key(one), key(other)];
    return turn * (typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right);
  });
}

function deviceRow(device) {
  const battery = batteryOf(device);
  const status = element("td", "", pill(device.status), device.reason ? element("span", "sub", device.reason) : null);
  const cells = [
    element("td", "", objectLink("devices", device.device_id)), status, element("td", "", device.role ?? ""),
    percent(device.cpu_usage), percent(device.memory_usage),
    typeof device.temperature === "number" ? `${device.temperature.toFixed(0)} °C` : "–",
    battery ? `${battery.level.toFixed(0)} %` : "–",
    `${device.running} / ${device.slots}`, device.completed.toLocaleString("en"), device.failed.toLocaleString("en"),
    AWAY.has(device.status) && device.last_seen_s >= 60 ? `${duration(60 * Math.floor(device.last_seen_s / 60))} ago` : "now",
  ];
  return element("tr", "", ...cells.map((each) => (typeof each === "string" ? element("td", "right", each) : each)));
}

function drawHead() {
  replaceKeyed(byId("devices-head"), COLUMNS.map((each, index) => ({ ...each, index })), (each) => each.name, (each) => {
    const press = element("button", "sort", each.name);
    press.type = "button";
    press.dataset.focus = each.name;
    press.addEventListener("click", () => {
      view.down = view.column === each.index ? !view.down : Boolean(each.right);
      view.column = each.index;
      drawDevicesScreen();
    });
    const sorted = view.column === each.index ? (view.down ? "descending" : "ascending") : "none";
    return attributes(element("th", each.right ? "right" : "", press), { scope: "col", "aria-sort": sorted });
  }, (each) => `${view.column === each.index} ${view.down}`);
}

function drawStatuses() {
  const counts = new Map();
  for (const device of seen.devices) counts.set(device.status, (counts.get(device.status) ?? 0) + 1);
  const chosen = byId("devices-status").value;
  if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
  const items = [["", seen.devices.length], ...[...counts].sort()];
  replaceKeyed(byId("devices-status"), items, ([status]) => `s-${status}`, ([status, count]) => {
    const option = element("option", "", `${status || "all"} (${count})`);
    option.value = status;
    option.selected = status === chosen;
    return option;
  });
}

/** Draw the screen with all devices. */
export function drawDevicesScreen() {
  drawStatuses();
  const found = shownDevices();
  const kind = byId("devices-view").value;
  const some = kind === "table" && !view.all ? found.slice(0, ROWS_SHOWN) : found;
  byId("devices-table").hidden = kind !== "table";
  const list = byId("devices-list");
  list.hidden = kind === "table";
  if (kind === "table") {
    drawHead();
    replaceKeyed(byId("devices-rows"), some, (each) => each.device_id, deviceRow, (each) => JSON.stringify({ ...each, last_seen_s: Math.floor(each.last_seen_s / 60), last_seen_at: 0, uptime_s: 0 }));
  } else {
    if (kind === "cards") drawCards(list, some, view.runs);
    else drawTiles(list, some);
  }
  byId("devices-more").hidden = some.length === found.length;
  byId("devices-more").textContent = `Show all ${found.length.toLocaleString("en")}`;
  byId("devices-shown").textContent = seen.devices.length ? `${found.length.toLocaleString("en")} of ${counted(seen.devices.length, "device")}` : "No device has registered yet.";
}

/** Ask what only that screen shows: what runs on its cards. */
export async function askDevices() {
  if (byId("devices-view").value !== "cards") return;
  const { tasks } = await get("tasks?status=running,assigned,cancelling&limit=1000");
  view.runs = runsByDevice(tasks);
}

for (const id of ["devices-search", "devices-status", "devices-view"]) byId(id).addEventListener("input", () => drawDevicesScreen());
byId("devices-more").addEventListener("click", () => {
  view.all = true;
  drawDevicesScreen();
});
