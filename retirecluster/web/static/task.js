// The panel with everything about one task: what it prints, live; its attempts, files, scores, and why it waits.
import { followOutput, get, send } from "/static/api.js";
import { bar, element, facts, objectLink, pill, table } from "/static/dom.js";
import { clockTime, duration, plainOutput, secondsBetween, size } from "/static/format.js";
import { actionButton, confirmed, notice, openPanel, titlePanel } from "/static/panel.js";
import { onEvent, refreshSoon } from "/static/store.js";

const FINAL = new Set(["completed", "failed", "cancelled", "expired", "lost"]);
const WAITING = new Set(["blocked", "queued", "retrying"]);
const AGAIN_MS = 1500;
const OUTPUT_KEPT = 200_000;
let current = null;

/** Open the panel for a task; `closed` is called when it no longer shows it. */
export function showTask(taskId, closed) {
  const parts = Object.fromEntries(["head", "about", "why", "result", "files", "output", "attempts", "placement"].map((name) => [name, element("section", "part")]));
  parts.head.append(element("p", "empty", "Loading…"));
  const view = { taskId, parts, drawn: {}, stop: () => {}, timer: 0, text: "", epoch: null };
  openPanel(taskId, element("div", "", ...Object.values(parts)), () => {
    view.stop();
    clearTimeout(view.timer);
    if (current === view) current = null;
    closed();
  });
  current = view;
  load(view);
}

async function load(view) {
  clearTimeout(view.timer);
  const id = encodeURIComponent(view.taskId);
  try {
    const task = await get(`tasks/${id}`);
    const ended = FINAL.has(task.status);
    const [result, why, files] = await Promise.all([
      ended ? get(`tasks/${task.task_id}/result`).catch(() => null) : null,
      ended ? null : get(`tasks/${task.task_id}/why`).catch(() => null),
      get(`tasks/${task.task_id}/files`).catch(() => null),
    ]);
    if (current !== view) return;
    titlePanel(task.name || task.task_id);
    part(view, "head", [task.status, task.progress, task.reason], () => headParts(task));
    part(view, "about", { ...task, progress: 0, attempts: 0 }, () => [aboutPart(task)]);
    part(view, "why", why, () => whyParts(why));
    part(view, "attempts", task.attempts, () => attemptParts(task));
    part(view, "placement", task.placement, () => placementParts(task.placement));
    part(view, "result", result, () => resultParts(result));
    part(view, "files", [files, result?.skipped_files], () => fileParts(files, result));
    follow(view, task);
    if (!ended) view.timer = setTimeout(() => load(view), AGAIN_MS);
  } catch (error) {
    if (current !== view) return;
    part(view, "head", error.message, () => [element("p", "bad", error.message)]);
    if (error.status !== 404) view.timer = setTimeout(() => load(view), 2 * AGAIN_MS);
  }
}

onEvent((event) => {
  if (!current || event.task_id !== current.taskId) return;
  clearTimeout(current.timer);
  const view = current;
  view.timer = setTimeout(() => load(view), 150);
});

function pause() {
  current?.stop();
}

function goOn() {
  if (!current || document.hidden) return;
  current.epoch = null;
  load(current);
}
document.addEventListener("visibilitychange", () => (document.hidden ? pause() : goOn()));
addEventListener("pagehide", pause);
addEventListener("pageshow", goOn);

/** Draw a part if what it shows has changed: what a reader has marked or opened elsewhere stays. */
function part(view, name, data, make) {
  const signature = JSON.stringify(data ?? null);
  if (view.drawn[name] === signature) return;
  view.drawn[name] = signature;
  view.parts[name].replaceChildren(...make());
}

function headParts(task) {
  const state = element("div", "panel-state", pill(task.status), task.reason ? element("span", "sub", task.reason) : null);
  const found = [state];
  if (task.status === "running") {
    const done = task.progress?.percent ?? null;
    found.push(element("div", "panel-progress", bar(done, "progress", "busy"), element("span", "value", done === null ? "" : `${done.toFixed(0)} %`)));
    if (task.progress?.message) found.push(element("p", "sub", task.progress.message));
  }
  found.push(element("div", "actions", ...actionsOf(task)));
  return found;
}

function actionsOf(task) {
  const act = (verb, body = {}) => async () => {
    const done = await send("POST", `tasks/${task.task_id}/${verb}`, body);
    refreshSoon();
    if (current) load(current);
    return done;
  };
  const found = [];
  if (WAITING.has(task.status)) found.push(actionButton("Hold back", act("hold")));
  if (task.status === "held") found.push(actionButton("Release", act("release")));
  if (!FINAL.has(task.status) && task.status !== "cancelling") {
    found.push(actionButton("Cancel", async () => {
      const name = task.name || task.task_id;
      const detail = task.status === "running" ? "It is stopped on its device, and what it has done so far is lost." : "It will not run.";
      if (await confirmed(`Cancel ${name}?`, detail, "Cancel the task")) await act("cancel")();
    }, "button danger"));
  }
  if (FINAL.has(task.status)) {
    found.push(actionButton("Run it again", async () => {
      const made = await act("retry")();
      notice("Submitted once more:", "good", objectLink("tasks", made.task_id));
    }));
  }
  return found;
}

function aboutPart(task) {
  const labels = Object.entries(task.labels ?? {}).map(([name, value]) => `${name}=${value}`).join(", ");
  const asked = Object.entries(task.requirements ?? {}).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ");
  return facts([
    ["task", element("span", "mono", task.task_id)],
    ["type", task.task_type],
    ["priority", task.priority],
    ["device", task.device_id ? objectLink("devices", task.device_id) : ""],
    ["submitted", clockTime(task.created_at) + (task.submitted_by ? ` by ${task.submitted_by}` : "")],
    ["started", task.started_at ? `${clockTime(task.started_at)}, after ${duration(secondsBetween(task.created_at, task.started_at))}` : ""],
    ["finished", task.finished_at ? `${clockTime(task.finished_at)}${task.started_at ? `, after ${duration(secondsBetween(task.started_at, task.finished_at))}` : ""}` : ""],
    ["exit status", task.result?.exit_code ?? ""],
    ["may take", duration(task.timeout)],
    ["labels", labels],
    ["requirements", asked],
    ["verified", task.verification ? `${task.verification.state}${task.verification.reason ? `: ${task.verification.reason}` : ""}` : ""],
    ["again from", task.retry_of ? objectLink("tasks", task.retry_of) : ""],
  ]);
}

function whyParts(why) {
  if (!why || !(why.devices ?? []).length) return [];
  const list = element("dl", "facts");
  for (const each of why.devices.slice(0, 50)) {
    const reasons = (each.reasons ?? []).join("; ");
    list.append(element("dt", "", objectLink("devices", each.device_id)), element("dd", "", each.fits && !reasons ? "fits" : reasons || "–"));
  }
  const left = why.devices.length - 50;
  const helps = (why.nearest ?? []).map((each) => element("li", "", each.text));
  return [
    element("h3", "", "Why it waits"),
    helps.length ? element("div", "note", "It would run if you: ", element("ul", "", ...helps)) : null,
    why.hint && !helps.length ? element("p", "note", why.hint) : null,
    list,
    left > 0 ? element("p", "sub", `and ${left} more devices`) : null,
  ].filter(Boolean);
}

function attemptParts(task) {
  const rows = (task.attempts ?? []).map((each) => {
    const outcome = element("td", "", pill(each.outcome ?? task.status));
    if (each.reason) outcome.append(element("span", "sub", each.reason));
    const ran = each.started_at ? duration(secondsBetween(each.started_at, each.finished_at)) : "";
    return [String(each.epoch), objectLink("devices", each.device_id), outcome, element("td", "nowrap", clockTime(each.started_at ?? each.granted_at)), element("td", "nowrap", ran)];
  });
  return rows.length ? [element("h3", "", "Attempts"), table(["No", "Device", "Outcome", "Began", "Ran"], rows, "Attempts")] : [];
}

function placementParts(placement) {
  if (!placement) return [];
  const best = Math.max(...placement.candidates.map((each) => each.score ?? 0), 1e-9);
  const rows = placement.candidates.map((each) => {
    const part = typeof each.score === "number" ? (100 * each.score) / best : null;
    const told = Object.entries(each.factors).filter(([, value]) => value !== 1).map(([name, value]) => `${name} ${value}`).join(", ");
    const score = element("td", "score", bar(part, "score", "busy"), element("span", "", each.score === null ? "–" : String(each.score)));
    return [objectLink("devices", each.device_id), score, element("td", "sub", told || "nothing for or against it")];
  });
  return [
    element("h3", "", "Placement"),
    element("p", "note", `${placement.why} (${placement.strategy.replaceAll("_", " ")}${placement.others > 0 ? `; ${placement.others} more had no room or were not kept` : ""})`),
    table(["Device", "Score", "Factors other than 1"], rows, "Placement scores"),
  ];
}

function resultParts(result) {
  if (!result) return [];
  const parts = [];
  if (result.error) parts.push(element("h3", "bad", "Error"), element("pre", "", plainOutput(text(result.error.message ?? result.error))));
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
    for (const each of listed) list.append(element("li", "", fileLink(files.task_id, each, direction), " ", element("span", "sub", size(each.size_bytes))));
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

/** What it prints, from its beginning, as it comes. Followed once, and once more for each later attempt. */
function follow(view, task) {
  if (view.epoch === task.epoch || task.epoch === 0) return;
  view.stop();
  view.epoch = task.epoch;
  const printed = element("pre", "output");
  printed.tabIndex = 0;
  const title = element("h3", "", FINAL.has(task.status) ? "Output" : "Output, live");
  const cut = element("p", "sub", "The beginning is left out here.");
  cut.hidden = true;
  view.parts.output.replaceChildren();
  view.text = "";
  let waiting = 0;
  const show = () => {
    waiting = 0;
    if (!view.text) return;
    if (!printed.isConnected) view.parts.output.replaceChildren(title, cut, printed);
    const atEnd = printed.scrollHeight - printed.scrollTop - printed.clientHeight < 40;
    printed.textContent = plainOutput(view.text);
    if (atEnd) printed.scrollTop = printed.scrollHeight;
  };
  const add = (text) => {
    view.text += text;
    if (view.text.length > OUTPUT_KEPT) {
      view.text = view.text.slice(-OUTPUT_KEPT / 2);
      cut.hidden = false;
    }
    waiting ||= setTimeout(show, 100);
  };
  view.stop = followOutput(task.task_id, (piece) => add(piece.data), () => { view.text = ""; }, () => {
    title.textContent = "Output";
    if (current === view) load(view);
  });
}

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
