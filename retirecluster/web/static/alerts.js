// What a person should look at now, from the health checks, the devices and the counts of tasks.
import { attributes, byId, element, replaceKeyed } from "/static/dom.js";
import { batteryOf, counted, duration } from "/static/format.js";
import { seen } from "/static/store.js";

const NAMED = 3;

/** "pi, nas and 4 more" */
function named(devices) {
  const shown = devices.slice(0, NAMED).map((each) => each.device_id);
  const more = devices.length - shown.length;
  return more ? `${shown.join(", ")} and ${more} more` : shown.join(", ");
}

function ofDevices(test, tone, words, plural = words) {
  const found = seen.devices.filter(test);
  if (!found.length) return [];
  const text = `${named(found)} ${found.length === 1 ? words : plural}`;
  const reason = found.length === 1 ? found[0].reason : "";
  const link = found.length === 1 ? `#/devices/${encodeURIComponent(found[0].device_id)}` : "#/devices";
  return [{ tone, text: reason ? `${text}: ${reason}` : text, link }];
}

/** [{tone, text, link}], the worst first. */
export function alerts() {
  const { status, health } = seen;
  if (!status) return [];
  const has = (...states) => (device) => states.includes(device.status);
  const low = (device) => {
    const battery = batteryOf(device);
    return device.status === "online" && battery !== null && battery.level <= 15 && battery.charging === false;
  };
  const hot = (device) => device.status === "online" && device.temperature >= 80;
  const found = [
    ...(health?.problems ?? []).map((text) => ({ tone: "bad", text, link: "/text/health" })),
    ...ofDevices(has("suspect", "quarantined"), "bad", "is not trusted at the moment", "are not trusted at the moment"),
    ...ofDevices(has("offline"), "bad", "is offline", "are offline"),
    ...ofDevices(has("disconnected"), "wait", "has lost its connection", "have lost their connection"),
    ...ofDevices(hot, "wait", "is hot", "are hot"),
    ...ofDevices(low, "wait", "runs on its last battery", "run on their last battery"),
  ];
  if (status.tasks.held) {
    found.push({ tone: "wait", text: `${counted(status.tasks.held, "task")} held back for a person to look at`, link: "#/tasks?status=held" });
  }
  if (status.quiet) {
    const left = status.quiet.for_s;
    const until = typeof left === "number" ? ` for ${duration(left)}` : "";
    found.push({ tone: "wait", text: `The cluster is quiet${until}: no device gets anything new`, link: "" });
  }
  if (seen.trustedNetwork) {
    found.push({ tone: "wait", text: "trusted_network is on: whoever reaches this machine can run code on your devices", link: "" });
  }
  return found;
}

/** Draw them; nothing to say is said in one quiet line. */
export function drawAlerts() {
  const found = alerts();
  replaceKeyed(byId("alerts"), found, (each) => each.text, (each) => {
    const dot = attributes(element("span", `dot ${each.tone}`), { "aria-hidden": "true" });
    const text = each.link ? element("a", "link", each.text) : element("span", "", each.text);
    if (each.link) text.href = each.link;
    return element("li", `alert ${each.tone}`, dot, text);
  });
  byId("alerts-none").hidden = !seen.status || found.length > 0;
  const count = byId("alerts-count");
  count.textContent = found.length ? String(found.length) : "";
}
