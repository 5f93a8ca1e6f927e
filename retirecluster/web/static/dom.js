// Small tools for building the page. Everything from outside goes in as text, never as markup.

/** The element with that id; the page has it. */
export const byId = (id) => document.getElementById(id);

/** A new element: its class, and what is in it (strings become text; null is left out). */
export function element(tag, className = "", ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content.filter((each) => each !== null && each !== undefined));
  return made;
}

/** Put `made` where `list` has other children, but leave alone what has not changed: focus and scroll stay. */
export function replaceKeyed(list, items, keyOf, make, signatureOf = JSON.stringify) {
  const old = new Map([...list.children].map((each) => [each.dataset.key, each]));
  let position = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const signature = signatureOf(item);
    let node = old.get(key);
    old.delete(key);
    if (!node || node.signature !== signature) {
      const fresh = make(item);
      fresh.dataset.key = key;
      fresh.signature = signature;
      if (node) {
        const focused = node.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
        if (position === node) position = fresh;
        node.replaceWith(fresh);
        if (focused) fresh.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
      }
      node = fresh;
    }
    if (node === position) position = position.nextElementSibling;
    else list.insertBefore(node, position);
  }
  for (const gone of old.values()) gone.remove();
}

/** A bar; `percent` null means that it is not known. */
export function bar(percent, label, kind = "") {
  const known = typeof percent === "number";
  const level = kind || (percent >= 95 ? "full" : percent >= 80 ? "high" : "");
  const made = element("div", `bar ${known ? level : "unknown"}`, element("i"));
  made.setAttribute("role", "meter");
  made.setAttribute("aria-label", label);
  if (known) {
    made.firstElementChild.style.setProperty("--part", `${Math.max(0, Math.min(100, percent))}%`);
    made.setAttribute("aria-valuenow", String(Math.round(percent)));
    made.setAttribute("aria-valuemin", "0");
    made.setAttribute("aria-valuemax", "100");
  }
  return made;
}

const TONES = {
  online: "good", running: "busy", completed: "good", assigned: "busy",
  queued: "wait", retrying: "wait", held: "wait", blocked: "wait", cancelling: "wait",
  draining: "wait", cordoned: "wait", paused: "wait", disconnected: "wait",
  failed: "bad", expired: "bad", lost: "bad",
};

/** The colour class of a status; empty for those that say nothing. */
export const toneOf = (status) => TONES[status] ?? "";

/** A status with its dot. */
export function pill(status) {
  const dot = element("span", `dot ${toneOf(status)}`);
  dot.setAttribute("aria-hidden", "true");
  return element("span", "pill", dot, status);
}

/** Seconds as people say them: 0.25 s, 42 s, 3 min 20 s, 5 h 10 min, 2 d 3 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 10) return `${Number(seconds.toFixed(2))} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, lower, lowerUnit] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / lower);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${lowerUnit}` : ""}`;
    }
  }
  return `${whole} s`;
}

/** Bytes as people say them: 512 B, 1.5 KiB, 16 GiB. */
export function size(bytes) {
  let left = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (left < 1024) return `${Number(left.toPrecision(3))} ${unit}`;
    left /= 1024;
  }
  return `${Number(left.toPrecision(3))} TiB`;
}

/** The time of day of an ISO instant or of Unix seconds, in the reader's zone; with the date if it is not today. */
export function clockTime(instant) {
  if (instant === null || instant === undefined) return "";
  const at = new Date(typeof instant === "number" ? instant * 1000 : instant);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}
