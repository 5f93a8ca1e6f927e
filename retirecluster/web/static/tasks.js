// Tasks as rows, and the screen that has them all, page by page.
import { get } from "/static/api.js";
import { byId, element, objectLink, pill, replaceKeyed } from "/static/dom.js";
import { clockTime, counted, duration, secondsBetween } from "/static/format.js";
import { draw, learnNames, seen } from "/static/store.js";

const PAGE = 100;
const view = { tasks: [], cursor: null, older: false, error: "" };

/** A row of a table of tasks; all of it opens the task. */
export function taskRow(task) {
  const status = element("td", "", pill(task.status));
  if (task.reason) status.append(element("span", "sub", task.reason));
  const took = task.finished_at ? duration(secondsBetween(task.started_at, task.finished_at)) : "";
  const row = element(
    "tr", "opens",
    element("td", "", objectLink("tasks", task.task_id, task.name || task.task_id), task.name ? element("span", "sub mono", task.task_id) : null),
    element("td", "", task.task_type),
    status,
    element("td", "text", task.device_id ? objectLink("devices", task.device_id) : ""),
    element("td", "nowrap right", took),
    element("td", "nowrap right", clockTime(task.created_at)),
  );
  row.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !getSelection().toString()) row.querySelector("a").click();
  });
  return row;
}

function query(cursor) {
  const asked = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, id] of [["status", "find-status"], ["type", "find-type"], ["device", "find-device"], ["label", "find-label"]]) {
    const value = byId(id).value.trim();
    if (value) asked.set(name, value);
  }
  if (cursor) asked.set("cursor", cursor);
  return `tasks?${asked}`;
}

/** Ask for the newest page; who has turned to older ones is left there. */
export async function askTasks() {
  if (view.older) return;
  const asked = query("");
  const found = await get(asked).catch((error) => ({ tasks: [], next_cursor: null, error: error.message }));
  if (asked !== query("")) return;
  learnNames(found.tasks);
  Object.assign(view, { tasks: found.tasks, cursor: found.next_cursor, error: found.error ?? "" });
}

async function more() {
  const found = await get(query(view.cursor));
  learnNames(found.tasks);
  view.older = true;
  view.tasks = [...view.tasks, ...found.tasks];
  view.cursor = found.next_cursor;
  drawTasksScreen();
}

/** Begin anew with a state that the address names. */
export function showTasks(parameters) {
  const wanted = parameters.get("status");
  if (wanted !== null) byId("find-status").value = wanted;
  const device = parameters.get("device");
  if (device !== null) byId("find-device").value = device;
  view.older = false;
}

/** Draw the screen with all tasks. */
export function drawTasksScreen() {
  replaceKeyed(byId("all-tasks"), view.tasks, (task) => task.task_id, taskRow);
  byId("all-tasks-more").hidden = !view.cursor;
  byId("all-tasks-newest").hidden = !view.older;
  const kept = seen.status ? Object.values(seen.status.tasks).reduce((sum, each) => sum + each, 0) : 0;
  byId("all-tasks-shown").textContent = view.error || `${view.tasks.length.toLocaleString("en")} shown of ${counted(kept, "task")}${view.older ? "; the list stands still" : ""}`;
}

async function again() {
  view.older = false;
  await askTasks();
  draw();
}
let typing = 0;
for (const id of ["find-status", "find-type", "find-device", "find-label"]) {
  byId(id).addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(again, 250);
  });
}
byId("all-tasks-more").addEventListener("click", more);
byId("all-tasks-newest").addEventListener("click", again);
