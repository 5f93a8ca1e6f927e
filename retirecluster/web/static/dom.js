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

/** Set attributes of an element (null and false: left out, true: empty), and give it back. */
export function attributes(node, given) {
  for (const [name, value] of Object.entries(given)) {
    if (value !== null && value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/**
 * Make the children of `list` those of `items`, but leave alone what has not changed: focus and scroll stay. With
 * `update(node, item)` what has changed is not made anew, but told (where that is false, it is made anew after all).
 */
export function replaceKeyed(list, items, keyOf, make, signatureOf = JSON.stringify, update = () => false) {
  const old = new Map([...list.children].map((each) => [each.dataset.key, each]));
  let position = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const signature = signatureOf(item);
    let node = old.get(key);
    old.delete(key);
    if (node && node.signature !== signature && update(node, item)) node.signature = signature;
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
  attributes(made, { role: "meter", "aria-label": label });
  if (known) {
    made.firstElementChild.style.setProperty("--part", `${Math.max(0, Math.min(100, percent))}%`);
    attributes(made, { "aria-valuenow": String(Math.round(percent)), "aria-valuemin": "0", "aria-valuemax": "100" });
  }
  return made;
}

const TONES = {
  online: "good", running: "busy", completed: "good", assigned: "busy", agreed: "good",
  queued: "wait", retrying: "wait", held: "wait", blocked: "wait", cancelling: "wait",
  draining: "wait", cordoned: "wait", paused: "wait", disconnected: "wait",
  failed: "bad", expired: "bad", lost: "bad", suspect: "bad", quarantined: "bad",
};

/** The colour class of a status; empty for those that say nothing. */
export const toneOf = (status) => TONES[status] ?? "";

/** A status with its dot. */
export function pill(status) {
  const dot = attributes(element("span", `dot ${toneOf(status)}`), { "aria-hidden": "true" });
  return element("span", "pill", dot, status);
}

/** Where the page shows a task or a device. */
export const addressOf = (kind, id) => `#/${kind}/${encodeURIComponent(id)}`;

/** A link to a task or a device; `text` is what it says. */
export function objectLink(kind, id, text = id, className = "link") {
  const link = element("a", className, text);
  link.href = addressOf(kind, id);
  link.title = id;
  link.dataset.focus = id;
  return link;
}

/** A button that does something when it is pressed. */
export function button(text, onPress, className = "button") {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onPress);
  return made;
}

/** A table with its head; `rows` are `tr`, or arrays of what is in their cells. */
export function table(titles, rows, caption = "") {
  const head = element("tr", "", ...titles.map((title) => attributes(element("th", "", title), { scope: "col" })));
  const body = element("tbody", "", ...rows.map((row) => (Array.isArray(row) ? element("tr", "", ...row.map(cell)) : row)));
  const made = element("table", "", caption ? element("caption", "unseen", caption) : null, element("thead", "", head), body);
  const around = element("div", "scroll", made);
  return attributes(around, { tabindex: "0", role: "region", "aria-label": caption || titles.join(", ") });
}

const cell = (content) => (content instanceof HTMLTableCellElement ? content : element("td", "", content));

/** Names and values, those that are empty left out. */
export function facts(rows) {
  const list = element("dl", "facts");
  for (const [name, value] of rows) {
    if (value !== null && value !== undefined && value !== "") list.append(element("dt", "", name), element("dd", "", value));
  }
  return list;
}

/** Something to copy, with a button that does it. */
export function copyable(text, label) {
  const code = element("code", "copy-text", text);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // without the clipboard (plain HTTP from elsewhere) it is marked, at least
      copy.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  });
  copy.setAttribute("aria-label", `Copy ${label}`);
  return element("div", "copyable", code, copy);
}
