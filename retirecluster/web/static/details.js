// The panel with everything about one task.
import { get } from "/static/api.js";
import { byId, clockTime, duration, element, pill, size } from "/static/dom.js";

const FINAL = new Set(["completed", "failed", "cancelled", "expired", "lost"]);
const panel = byId("details");
let shown = "";

byId("details-close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => event.target === panel && panel.close());
panel.addEventListener("close", () => { shown = ""; });

/** Open the panel for a task. */
export async function showTask(taskId) {
  shown = taskId;
  byId("details-title").textContent = taskId;
  byId("details-body").replaceChildren(element("p", "empty", "Loading…"));
  if (!panel.open) panel.showModal();
  const parts = await load(taskId).catch((error) => [element("p", "bad", error.message)]);
  if (shown === taskId) byId("details-body").replaceChildren(...parts);
}

async function load(taskId) {
  const task = await get(`tasks/${encodeURIComponent(taskId)}`);
  byId("details-title").textContent = task.name || task.task_id;
  const ended = FINAL.has(task.status);
  const [result, output, why, files] = await Promise.all([
    ended ? get(`tasks/${task.task_id}/result`).catch(() => null) : null,
    get(`tasks/${task.task_id}/output`).catch(() => null),
    ended ? null : get(`tasks/${task.task_id}/why`).catch(() => null),
    get(`tasks/${task.task_id}/files`).catch(() => null),
  ]);
  return [
    facts(task), ...whyParts(why), ...attemptParts(task.attempts), ...resultParts(result), ...fileParts(files, result),
    ...outputParts(output, result),
  ];
}

function facts(task) {
  const labels = Object.entries(task.labels ?? {}).map(([name, value]) => `${name}=${value}`).join(", ");
  const rows = [
    ["status", pill(task.status)],
    ["reason", task.reason],
    ["task", element("span", "mono", task.task_id)],
    ["type", task.task_type],
    ["priority", task.priority],
    ["device", task.device_id],
    ["submitted", clockTime(task.created_at)],
    ["started", clockTime(task.started_at)],
    ["finished", clockTime(task.finished_at)],
    ["labels", labels],
    ["requirements", Object.keys(task.requirements ?? {}).length ? JSON.stringify(task.requirements) : ""],
    ["again from", task.retry_of],
  ];
  const list = element("dl", "facts");
  for (const [name, value] of rows) {
    if (value) list.append(element("dt", "", name), element("dd", "", value));
  }
  return list;
}

function whyParts(why) {
  if (!why || !(why.devices ?? []).length) return [];
  const list = element("dl", "facts");
  for (const each of why.devices.slice(0, 50)) {
    const reasons = (each.reasons ?? []).join("; ");
    list.append(element("dt", "", each.device_id), element("dd", "", each.fits && !reasons ? "fits" : reasons || "–"));
  }
  return [element("h3", "", "Why it waits"), list, why.hint ? element("p", "note", why.hint) : null].filter(Boolean);
}

function attemptParts(attempts) {
  if (!(attempts ?? []).length) return [];
  const body = element("tbody");
  for (const each of attempts) {
    const ran = each.started_at && each.finished_at ? duration((new Date(each.finished_at) - new Date(each.started_at)) / 1000) : "";
    const outcome = element("td", "", each.outcome ?? "current");
    if (each.reason) outcome.append(element("span", "sub", each.reason));
    body.append(element("tr", "", element("td", "", String(each.epoch)), element("td", "text", each.device_id), outcome, element("td", "nowrap", ran)));
  }
  const head = element("tr");
  for (const title of ["No", "Device", "Outcome", "Time"]) {
    const cell = element("th", "", title);
    cell.scope = "col";
    head.append(cell);
  }
  const table = element("div", "scroll", element("table", "", element("thead", "", head), body));
  return [element("h3", "", "Attempts"), table];
}

function resultParts(result) {
  if (!result) return [];
  const parts = [];
  if (result.error) parts.push(element("h3", "", "Error"), element("pre", "", text(result.error.message ?? result.error)));
  if (result.output !== null && result.output !== undefined && typeof result.output !== "string") {
    parts.push(element("h3", "", "Result"), element("pre", "", text(result.output)));
  }
  return parts;
}

function fileParts(files, result) {
  const parts = [];
  // The newest attempt's file of each name is the one that the link gives.
  const outputs = [...new Map((files?.outputs ?? []).map((each) => [each.name, each])).values()];
  for (const [title, listed, direction] of [["Files it left", outputs, "output"], ["Files it brought", files?.inputs ?? [], "input"]]) {
    if (!listed.length) continue;
    const list = element("ul", "files");
    for (const each of listed) list.append(element("li", "", fileLink(files.task_id, each, direction), ` ${size(each.size_bytes)}`));
    parts.push(element("h3", "", title), list);
  }
  const skipped = result?.skipped_files ?? [];
  if (skipped.length) parts.push(element("h3", "", "Not kept"), element("pre", "", skipped.join("\n")));
  return parts;
}

function fileLink(taskId, file, direction) {
  if (!file.present) return element("span", "", `${file.name} (its content is lost)`);
  const link = element("a", "", file.name);
  const name = file.name.split("/").map(encodeURIComponent).join("/");
  link.href = `/api/v1/tasks/${encodeURIComponent(taskId)}/files/${name}?direction=${direction}`;
  link.download = "";
  return link;
}

function outputParts(output, result) {
  const printed = (output?.chunks ?? []).map((each) => each.data).join("");
  const said = printed || (typeof result?.output === "string" ? result.output : "");
  return said ? [element("h3", "", result?.truncated ? "Output (its end)" : "Output"), element("pre", "", said)] : [];
}

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
