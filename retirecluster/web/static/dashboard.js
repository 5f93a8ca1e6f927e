// The page: which screen the address names, what stands above all of them, and the round of asking and drawing.
import { get } from "/static/api.js";
import { askDevices, drawDevicesScreen } from "/static/devices.js";
import { showDevice } from "/static/device.js";
import { byId } from "/static/dom.js";
import { duration } from "/static/format.js";
import { enterJoin, enterTokens } from "/static/household.js";
import { askOverview, drawOverview } from "/static/overview.js";
import { closePanel } from "/static/panel.js";
import { drawSession } from "/static/session.js";
import { begin, draw, onAsk, onDraw, refreshSoon, seen } from "/static/store.js";
import { enterSubmit } from "/static/submit.js";
import { askTasks, drawTasksScreen, showTasks } from "/static/tasks.js";
import { showTask } from "/static/task.js";
import { askTimeline, drawTimeline } from "/static/timeline.js";

const SCREENS = {
  overview: { title: "Overview", ask: askOverview, draw: drawOverview },
  devices: { title: "Devices", ask: askDevices, draw: drawDevicesScreen },
  tasks: { title: "Tasks", ask: askTasks, draw: drawTasksScreen, enter: showTasks },
  timeline: { title: "Timeline", ask: askTimeline, draw: drawTimeline },
  submit: { title: "Submit", enter: enterSubmit },
  join: { title: "Join", enter: enterJoin },
  tokens: { title: "Tokens", enter: enterTokens },
};
const PANELS = { tasks: showTask, devices: showDevice };
let current = "";
let depth = 0;

// -- where we are

/** "#/tasks/ID?..." as its parts. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  let id = "";
  try {
    id = decodeURIComponent(rest.join("/"));
  } catch { /* not an address of ours: the screen is shown */ }
  return { name: name in SCREENS ? name : "overview", id, parameters: new URLSearchParams(query) };
}

function showScreen(name, parameters) {
  if (current === name && ![...parameters].length) return;
  const changed = current !== "" && current !== name;
  current = name;
  for (const each of Object.keys(SCREENS)) {
    byId(`screen-${each}`).hidden = each !== name;
    const link = document.querySelector(`nav [data-screen="${each}"]`);
    if (each === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  SCREENS[name].enter?.(parameters);
  if (changed) scrollTo(0, 0);
  refreshSoon();
}

function go() {
  const { name, id, parameters } = place();
  const opens = id && PANELS[name];
  // The panel of a task or a device lies over the screen that was there; a link from elsewhere gets the list below it.
  if (!opens || !current) showScreen(name, parameters);
  if (opens) {
    depth += 1;
    const from = depth;
    PANELS[name](id, () => from === depth && left());
  } else {
    depth = 0;
    closePanel();
  }
  drawHeader();
  draw();
}

/** The panel was closed by hand: the address is that of the screen below it again. */
function left() {
  if (place().id) history.pushState(null, "", current === "overview" ? "#/" : `#/${current}`);
  depth = 0;
  drawHeader();
}

// -- above all screens

function drawHeader() {
  const { status, error, live } = seen;
  const dot = byId("state-dot");
  byId("live").textContent = live ? "live" : "not live, trying again";
  byId("live").className = `live ${live ? "on" : ""}`;
  const title = SCREENS[current]?.title ?? "";
  if (error || !status) {
    dot.className = "dot bad";
    byId("state-text").textContent = error || "Connecting…";
    document.title = `${error ? "no answer" : "…"} · retire-cluster`;
    return;
  }
  const online = status.devices.online ?? 0;
  const failing = seen.health?.status === "failing";
  dot.className = `dot ${failing ? "bad" : status.state === "running" ? "good" : "wait"}`;
  byId("state-text").textContent = `${status.state} · ${online} of ${status.devices.total} devices online`;
  document.title = `${title} · ${online}/${status.devices.total} · retire-cluster`;
  byId("footer-text").textContent =
    `retire-cluster ${status.version} · ${status.cluster_id} · up ${duration(Math.floor(status.uptime_s))} · event ${status.event_no}`;
}

function drawTheme() {
  const theme = retireTheme.kept();
  byId("theme").textContent = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" }[theme];
}
byId("theme").addEventListener("click", () => {
  const order = ["", "light", "dark"];
  retireTheme.choose(order[(order.indexOf(retireTheme.kept()) + 1) % order.length]);
  drawTheme();
  draw();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which screen there is
  byId(`screen-${current}`).querySelector("h2").focus();
});

onDraw(() => {
  drawHeader();
  SCREENS[current]?.draw?.();
});
onAsk(() => SCREENS[current]?.ask?.());
get("cluster/config").then((config) => { seen.trustedNetwork = config.trusted_network === true; }, () => {});
addEventListener("hashchange", go);
drawTheme();
drawSession();
go();
begin();
