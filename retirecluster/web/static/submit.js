// The form that submits a task: its fields are those of the chosen type, as the main describes them.
import { get, send } from "/static/api.js";
import { attributes, byId, element, objectLink } from "/static/dom.js";
import { counted } from "/static/format.js";
import { makeField } from "/static/fields.js";
import { refreshSoon } from "/static/store.js";

const PRIORITIES = ["low", "normal", "high", "critical"];
const OPTIONS = {
  name: { type: "string", maxLength: 200, description: "for people; the id is made by the main" },
  priority: { type: "string", enum: PRIORITIES, default: "normal" },
  timeout: { type: "number", minimum: 0, description: "seconds that an attempt may take" },
  max_retries: { type: "integer", minimum: 0, maximum: 100, description: "attempts after the first" },
  labels: { type: "object", description: "as {\"project\": \"films\"}" },
  requirements: { type: "object", description: "what a device must have, as {\"min_memory_gb\": 2}" },
};
const form = byId("submit-form");
let types = null;
let fields = [];

/** Ask for the types, once for each visit of the screen. */
export async function enterSubmit() {
  if (types) return;
  try {
    types = (await get("tasks/types")).types;
  } catch (error) {
    byId("submit-error").textContent = error.message;
    return;
  }
  const choice = byId("submit-type");
  choice.replaceChildren(...types.map((each) => {
    const option = element("option", "", each.task_type);
    option.value = each.task_type;
    return option;
  }));
  choice.value = types.some((each) => each.task_type === "command") ? "command" : types[0].task_type;
  drawFields();
}

function drawFields() {
  const type = types.find((each) => each.task_type === byId("submit-type").value);
  const where = type.devices.length ? `${counted(type.devices.length, "device")} can run it.` : "No device that is known runs it: it would wait for one.";
  byId("submit-about").textContent = `${type.doc} ${where}`;
  const needed = new Set(type.payload.required ?? []);
  const payload = Object.entries(type.payload.properties ?? {});
  const own = payload.map(([name, schema]) => makeField(name, schema, needed.has(name), `payload.${name}`));
  if (type.payload.additionalProperties !== false && !payload.length) {
    own.push(makeField("payload", { type: "object", description: "the whole payload" }, false, "payload"));
  }
  const options = Object.entries(OPTIONS).map(([name, schema]) => makeField(name, schema, false, name));
  fields = [...own, ...options];
  const none = own.length ? null : element("p", "sub", "It takes nothing.");
  byId("submit-payload").replaceChildren(...[none, ...own.map((each) => each.box)].filter(Boolean));
  byId("submit-options").replaceChildren(...options.map((each) => each.box));
  byId("submit-error").textContent = "";
}

function taskOf() {
  const task = { task_type: byId("submit-type").value, payload: {} };
  for (const field of fields) {
    const value = field.read();
    if (value === undefined) continue;
    if (field.path === "payload") task.payload = value;
    else if (field.path.startsWith("payload.")) task.payload[field.path.slice(8)] = value;
    else task[field.path] = value;
  }
  return task;
}

/** Show what is wrong at the fields it is about; what is about none of them stands above the button. */
function showErrors(error) {
  let first = null;
  const left = [];
  for (const each of error.errors ?? []) {
    const field = fields.find(({ path }) => each.field === path || each.field.startsWith(`${path}.`) || each.field.startsWith(`${path}[`));
    if (field) {
      field.fail(each.message);
      first ??= field;
    } else left.push(each.field ? `${each.field}: ${each.message}` : each.message);
  }
  byId("submit-error").textContent = first && !left.length ? "" : left.join("; ") || error.message;
  if (first) {
    first.box.closest("details")?.setAttribute("open", "");
    first.input.focus();
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const field of fields) field.fail("");
  byId("submit-error").textContent = "";
  const press = byId("submit-go");
  press.disabled = true;
  try {
    const made = await send("POST", "tasks", taskOf());
    const again = element("li", "", objectLink("tasks", made.task_id), ` ${made.status}`);
    byId("submit-made").prepend(again);
    byId("submit-done").hidden = false;
    refreshSoon();
  } catch (error) {
    showErrors(error);
  } finally {
    press.disabled = false;
  }
});
byId("submit-type").addEventListener("change", drawFields);
attributes(byId("submit-error"), { role: "alert" });
