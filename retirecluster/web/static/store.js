// What the main said last. Screens read it, and are told when there is something new.
import { follow, get } from "/static/api.js";

const POLL_MS = 3000;
const GAP_MS = 600;
const SLOWEST_MS = 20000;
const DRAW_MS = 200;
const EVENTS_KEPT = 80;
const MANY_DEVICES = 200;
const MANY_GAP_MS = 5000;

/** `status`, `health`, `devices` and `events` are kept for every screen; `error` is why they are old. */
export const seen = { status: null, health: null, devices: [], events: [], live: false, error: "" };

/** Names of tasks by id, as far as they were heard of; events other than the first carry the id alone. */
export const names = new Map();

/** Remember the names of tasks. */
export function learnNames(tasks) {
  for (const task of tasks) if (task.name && task.task_id) names.set(task.task_id, task.name);
  while (names.size > 2000) names.delete(names.keys().next().value);
}

const drawers = new Set();
const askers = new Set();
const listeners = new Set();
/** Call `drawer` when something changed, soon and not for each change. */
export const onDraw = (drawer) => drawers.add(drawer);
/** Call `asker` with each round of questions; it may be async, and give nothing. */
export const onAsk = (asker) => askers.add(asker);
/** Call `listener` with each event of the log. */
export const onEvent = (listener) => listeners.add(listener);

let drawing = 0;
/** Draw soon; many calls in a short time are one drawing. */
export function draw() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    for (const each of drawers) each();
  }, DRAW_MS);
}

let devicesAsked = 0;
async function askCore() {
  const many = seen.devices.length > MANY_DEVICES;
  const wantsDevices = !many || Date.now() - devicesAsked > MANY_GAP_MS;
  if (wantsDevices) devicesAsked = Date.now();
  const [status, health, devices] = await Promise.all([
    get("cluster/status"), get("cluster/health"), wantsDevices ? get("devices") : null,
  ]);
  Object.assign(seen, { status, health, devices: devices?.devices ?? seen.devices });
}

let recalled = false;
/** Fill the list of events with those before this page was opened, or from while nobody looked. */
async function recall() {
  if (recalled || !seen.status) return;
  recalled = true;
  const { events } = await get(`events?after=${Math.max(0, seen.status.event_no - EVENTS_KEPT / 2)}&limit=${EVENTS_KEPT}`);
  const known = new Set(seen.events.map((event) => event.event_no));
  learnNames(events);
  const all = [...seen.events, ...events.filter((event) => !known.has(event.event_no))];
  seen.events = all.sort((one, other) => other.event_no - one.event_no).slice(0, EVENTS_KEPT);
}

/** Ask the main everything that is shown. */
export async function refresh() {
  try {
    await Promise.all([askCore(), ...[...askers].map((each) => each())]);
    await recall();
    seen.error = "";
  } catch (error) {
    seen.error = error.status ? error.message : "The main does not answer.";
  }
  draw();
}

let asking = false;
let again = false;
let asked = 0;
let tookMs = 0;
/** How long to leave the main alone: a page that is slow to answer is asked less often. */
const rest = (least) => Math.min(SLOWEST_MS, Math.max(least, 8 * tookMs));

/** Ask soon, at most once at a time and not more often than is good for the main. */
export async function refreshSoon() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  await new Promise((done) => setTimeout(done, Math.max(0, asked + rest(GAP_MS) - Date.now())));
  again = false;
  asked = Date.now();
  await refresh();
  tookMs = Date.now() - asked;
  asking = false;
  if (again && !document.hidden) refreshSoon();
}

function heard(event) {
  if (event) {
    learnNames([event]);
    seen.events.unshift(event);
    if (seen.events.length > EVENTS_KEPT) seen.events.length = EVENTS_KEPT;
    for (const each of listeners) each(event);
  }
  draw();
  if (!document.hidden) refreshSoon();
}

function live(flag) {
  seen.live = flag;
  draw();
  if (flag) refreshSoon();
}

let stop = null;
/** Follow while somebody looks: hidden pages, and those kept for the way back, leave their connection to others. */
function listen() {
  if (document.hidden || stop) return;
  stop = follow(heard, live);
  recalled = false; // what happened meanwhile
  refreshSoon();
}

function deafen() {
  stop?.();
  stop = null;
  seen.live = false;
}

/** Begin to ask and to follow. */
export function begin() {
  document.addEventListener("visibilitychange", () => (document.hidden ? deafen() : listen()));
  addEventListener("pagehide", deafen);
  addEventListener("pageshow", listen);
  setInterval(() => document.hidden || Date.now() - asked < rest(POLL_MS) || refreshSoon(), POLL_MS / 3);
  listen();
}
