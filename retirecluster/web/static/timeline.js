// Who ran what when: a row for each device, a block for each attempt. Drawn on a canvas; the same is below it as a table.
import { get } from "/static/api.js";
import { addressOf, attributes, byId, element, objectLink, pill, replaceKeyed } from "/static/dom.js";
import { clockTime, counted, duration, millis } from "/static/format.js";
import { draw, onEvent } from "/static/store.js";

const ROW = 24;
const BLOCK = 16;
const HEAD = 24;
const ROWS_MOST = 300;
const MOST = 2000;
const TABLE_ROWS = 100;
const LEGEND_MOST = 12;
const ASK_MS = 2000;
const HUES = ["hue-1", "hue-2", "hue-3", "hue-4", "hue-5", "hue-6", "hue-7", "hue-8"];
const WINDOWS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400 };
const view = { attempts: [], complete: true, fromMs: 0, toMs: 0, boxes: [], rows: [], chosen: null, asked: 0, shownMs: 0 };
const canvas = byId("timeline-canvas");
const tip = byId("timeline-tip");

/** Ask for the attempts of the chosen window. */
export async function askTimeline() {
  if (byId("timeline-stop").checked && view.attempts.length) return;
  if (Date.now() - view.asked < ASK_MS) return;
  view.asked = Date.now();
  const window = byId("timeline-window").value;
  const found = await get(`attempts?window=${window}&limit=${MOST}`);
  view.shownMs = Date.now();
  Object.assign(view, { attempts: found.attempts.reverse(), complete: found.complete });
}

/** What an attempt is coloured by: the word that its task's name begins with ("transcode film-07" and "transcode film-08" are one kind of work), else its type. */
const workOf = (attempt) => attempt.name.match(/^\p{L}[\p{L}_.-]*\p{L}/u)?.[0] ?? attempt.task_type;

/** The colour role of a kind of work; the same for as long as the page is open. */
const hues = new Map();
function hueOf(work) {
  if (!hues.has(work)) hues.set(work, HUES[hues.size % HUES.length]);
  return hues.get(work);
}

const BAD = new Set(["failed", "timeout", "died", "lost", "lease_over", "error", "refused"]);
const isBad = (attempt) => BAD.has(attempt.outcome);

function rowsOf(attempts) {
  const lanes = new Map();
  for (const attempt of attempts) {
    const list = lanes.get(attempt.device_id) ?? [];
    lanes.set(attempt.device_id, list);
    const from = millis(attempt.started_at ?? attempt.granted_at);
    const to = attempt.finished_at ? millis(attempt.finished_at) : view.toMs;
    let lane = list.findIndex((end) => end <= from);
    if (lane < 0) lane = list.length;
    list[lane] = to;
    Object.assign(attempt, { lane, from, to });
  }
  const names = [...lanes.keys()].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
  const found = [];
  for (const name of names) {
    for (let lane = 0; lane < Math.min(4, lanes.get(name).length); lane += 1) found.push({ name, lane });
  }
  return found.slice(0, ROWS_MOST);
}

/** Draw the screen. */
export function drawTimeline() {
  const windowMs = 1000 * WINDOWS[byId("timeline-window").value];
  view.toMs = byId("timeline-stop").checked ? view.shownMs : Date.now();
  view.fromMs = view.toMs - windowMs;
  view.rows = rowsOf(view.attempts);
  const devices = new Set(view.rows.map((row) => row.name)).size;
  byId("timeline-empty").hidden = view.attempts.length > 0;
  canvas.hidden = view.attempts.length === 0;
  const cut = view.complete ? "" : ` (the newest ${MOST.toLocaleString("en")})`;
  byId("timeline-count").textContent = `${counted(view.attempts.length, "attempt")}${cut} on ${counted(devices, "device")}`;
  paint();
  drawLegend();
  if (byId("timeline-as-table").open) drawTable();
}

function paint() {
  const width = canvas.parentElement.clientWidth;
  const height = HEAD + view.rows.length * ROW + 6;
  const scale = Math.min(2, devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.setProperty("height", `${height}px`);
  }
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `12px ${style.fontFamily}`;
  pen.textBaseline = "middle";
  const left = Math.min(150, Math.max(84, width * 0.22));
  const xOf = (at) => left + ((at - view.fromMs) / (view.toMs - view.fromMs)) * (width - left - 8);
  paintGrid(pen, colour, xOf, left, width, height);
  paintNames(pen, colour, left, width);
  paintBlocks(pen, colour, xOf, left);
}

const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600].map((each) => 1000 * each);

function paintGrid(pen, colour, xOf, left, width, height) {
  const step = STEPS_MS.find((each) => (each / (view.toMs - view.fromMs)) * (width - left) >= 90) ?? STEPS_MS.at(-1);
  const seconds = step < 60000 ? { second: "2-digit" } : {};
  const zone = 60000 * new Date().getTimezoneOffset();
  for (let at = Math.ceil((view.fromMs - zone) / step) * step + zone; at <= view.toMs; at += step) {
    const x = Math.round(xOf(at)) + 0.5;
    pen.strokeStyle = colour("line");
    pen.beginPath();
    pen.moveTo(x, HEAD - 4);
    pen.lineTo(x, height);
    pen.stroke();
    pen.fillStyle = colour("muted");
    pen.textAlign = "center";
    const text = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...seconds, hour12: false });
    if (x > left + 14 && x < width - 24) pen.fillText(text, x, 9);
  }
}

function paintNames(pen, colour, left, width) {
  pen.textAlign = "left";
  view.rows.forEach((row, index) => {
    const y = HEAD + index * ROW;
    if (row.lane === 0) {
      pen.strokeStyle = colour("line");
      pen.beginPath();
      pen.moveTo(0, y + 0.5);
      pen.lineTo(width, y + 0.5);
      pen.stroke();
      pen.fillStyle = colour("text");
      pen.fillText(fitting(pen, row.name, left - 14), 4, y + ROW / 2);
    }
  });
}

function fitting(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let cut = text;
  while (cut.length > 1 && pen.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}

function paintBlocks(pen, colour, xOf, left) {
  const rowOf = new Map(view.rows.map((row, index) => [`${row.name} ${row.lane}`, index]));
  view.boxes = [];
  for (const attempt of view.attempts) {
    const row = rowOf.get(`${attempt.device_id} ${attempt.lane}`);
    if (row === undefined || attempt.to < view.fromMs) continue;
    const x = Math.max(left, xOf(attempt.from));
    const width = Math.max(2, xOf(attempt.to) - x - 1);
    const y = HEAD + row * ROW + (ROW - BLOCK) / 2;
    pen.globalAlpha = attempt.outcome === "cancelled" ? 0.4 : 1;
    pen.fillStyle = isBad(attempt) ? colour("bad") : colour(hueOf(workOf(attempt)));
    pen.beginPath();
    pen.roundRect(x, y, width, BLOCK, attempt.outcome ? 3 : [3, 0, 0, 3]);
    pen.fill();
    if (width > 60) {
      pen.fillStyle = colour("on-hue");
      pen.textAlign = "left";
      pen.fillText(fitting(pen, attempt.name || attempt.task_id, width - 10), x + 5, y + BLOCK / 2 + 0.5);
    }
    pen.globalAlpha = 1;
    if (view.chosen === keyOf(attempt)) {
      pen.strokeStyle = colour("text");
      pen.lineWidth = 2;
      pen.strokeRect(x - 1, y - 1, width + 2, BLOCK + 2);
      pen.lineWidth = 1;
    }
    view.boxes.push({ attempt, row, x, y, width });
  }
}

const keyOf = (attempt) => `${attempt.task_id} ${attempt.epoch}`;

function drawLegend() {
  const works = [...new Set(view.attempts.map(workOf))].sort();
  const items = works.slice(0, LEGEND_MOST).map((work) => ({ text: work, hue: hueOf(work) }));
  if (works.length > LEGEND_MOST) items.push({ text: `and ${works.length - LEGEND_MOST} more`, hue: "" });
  if (view.attempts.some(isBad)) items.push({ text: "ended badly", hue: "hue-bad" });
  replaceKeyed(byId("timeline-legend"), items, (each) => each.text, (each) => element("li", "", element("i", each.hue), each.text));
}

function drawTable() {
  const rows = view.attempts.slice(-TABLE_ROWS).reverse();
  replaceKeyed(byId("timeline-rows"), rows, keyOf, (each) => element(
    "tr", "",
    element("td", "", objectLink("devices", each.device_id)),
    element("td", "", objectLink("tasks", each.task_id, each.name || each.task_id)),
    element("td", "", each.task_type),
    element("td", "", pill(each.outcome ?? each.status)),
    element("td", "nowrap", clockTime(each.started_at ?? each.granted_at)),
    element("td", "nowrap right", each.finished_at ? duration((each.to - each.from) / 1000) : "runs"),
  ), (each) => `${keyOf(each)} ${each.outcome} ${each.status}`);
}

// -- pointing and keys

const boxAt = (x, y) => view.boxes.findLast((box) => x >= box.x - 2 && x <= box.x + box.width + 2 && y >= box.y - 3 && y <= box.y + BLOCK + 3);

function tell(box) {
  tip.hidden = !box;
  view.chosen = box ? keyOf(box.attempt) : null;
  if (box) {
    const { attempt } = box;
    const took = duration((attempt.to - attempt.from) / 1000);
    const ended = attempt.outcome ? attempt.outcome.replaceAll("_", " ") : "still runs";
    tip.replaceChildren(
      element("b", "", attempt.name || attempt.task_id),
      element("span", "", `${attempt.task_type} on ${attempt.device_id}`),
      element("span", "", `${clockTime(attempt.started_at ?? attempt.granted_at)} · ${took} · ${ended}${attempt.epoch > 1 ? ` · attempt ${attempt.epoch}` : ""}`),
    );
    const limit = canvas.parentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.setProperty("left", `${Math.max(4, Math.min(box.x, limit))}px`);
    tip.style.setProperty("top", `${box.y + BLOCK + 8}px`);
  }
  paint();
}

canvas.addEventListener("pointermove", (event) => {
  const box = boxAt(event.offsetX, event.offsetY);
  canvas.style.setProperty("cursor", box ? "pointer" : "default");
  if ((box ? keyOf(box.attempt) : null) !== view.chosen) tell(box);
});
canvas.addEventListener("pointerleave", () => tell(null));
canvas.addEventListener("click", (event) => {
  const box = boxAt(event.offsetX, event.offsetY);
  if (box) location.hash = addressOf("tasks", box.attempt.task_id);
});
canvas.addEventListener("keydown", (event) => {
  const at = view.boxes.findIndex((box) => keyOf(box.attempt) === view.chosen);
  const now = view.boxes[at];
  let next = null;
  if (event.key === "Enter" && now) location.hash = addressOf("tasks", now.attempt.task_id);
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") next = beside(now, event.key === "ArrowRight" ? 1 : -1);
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") next = above(now, event.key === "ArrowDown" ? 1 : -1);
  else if (event.key === "Escape") tell(null);
  else return;
  event.preventDefault();
  if (next) tell(next);
});
canvas.addEventListener("blur", () => tell(null));

function beside(now, step) {
  if (!now) return view.boxes.at(-1);
  const row = view.boxes.filter((box) => box.row === now.row).sort((one, other) => one.x - other.x);
  return row[row.indexOf(now) + step];
}

function above(now, step) {
  if (!now) return view.boxes.at(-1);
  for (let row = now.row + step; row >= 0 && row < view.rows.length; row += step) {
    const found = view.boxes.filter((box) => box.row === row);
    if (found.length) return found.reduce((best, box) => (Math.abs(box.x - now.x) < Math.abs(best.x - now.x) ? box : best));
  }
  return null;
}

onEvent(() => { if (Date.now() - view.asked > ASK_MS) view.asked = 0; });
byId("timeline-window").addEventListener("change", () => {
  Object.assign(view, { asked: 0, attempts: [] });
  askTimeline().then(draw, () => {});
});
byId("timeline-as-table").addEventListener("toggle", () => drawTimeline());
addEventListener("resize", () => { if (!byId("screen-timeline").hidden) paint(); });
attributes(canvas, { tabindex: "0", role: "img", "aria-label": "Timeline of attempts by device; arrow keys go from block to block, Enter opens a task; the same is in the table below" });
