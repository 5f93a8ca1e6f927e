// What lies over the page: the panel of one task or device, a question, and short notices.
import { byId, button, element } from "/static/dom.js";

const panel = byId("details");
let onClosed = () => {};
let focusedId = "";

byId("details-close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => event.target === panel && panel.close());
panel.addEventListener("close", () => {
  const ended = onClosed;
  onClosed = () => {};
  ended();
  // What was pressed may have been drawn anew meanwhile; then the browser cannot give the focus back.
  if (document.activeElement === document.body && focusedId) {
    document.querySelector(`main .screen:not([hidden]) [data-focus="${CSS.escape(focusedId)}"]`)?.focus();
  }
});

/** Open the panel, or take it over: a title, and `body`, an element. `closed` is called when it no longer shows this. */
export function openPanel(title, body, closed) {
  const before = onClosed;
  onClosed = closed;
  before();
  focusedId = panel.open ? focusedId : document.activeElement?.dataset?.focus ?? "";
  byId("details-title").textContent = title;
  byId("details-body").replaceChildren(body);
  panel.scrollTop = 0;
  if (!panel.open) panel.showModal();
}

/** Another title for what is shown. */
export function titlePanel(title) {
  byId("details-title").textContent = title;
}

/** Close it, if it is open. */
export const closePanel = () => panel.open && panel.close();

/** Ask before something that cannot be undone; true if it is meant. */
export function confirmed(question, detail, verb) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = question;
  byId("confirm-detail").textContent = detail;
  byId("confirm-yes").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}
byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
byId("confirm-no").addEventListener("click", () => byId("confirm").close(""));

const NOTICE_MS = 6000;

/** Say something for a few seconds; `tone` is "good" or "bad". */
export function notice(text, tone = "good", link = null) {
  const shown = element("p", `notice ${tone}`, element("span", "", text), link ? " " : null, link);
  const open = [...document.querySelectorAll("dialog[open]")].pop();
  const place = byId("notices");
  (open ?? document.body).append(place); // a dialog hides what is not in it
  place.append(shown);
  setTimeout(() => shown.remove(), NOTICE_MS);
}

/** A button for something that the main does: not pressed twice, and what goes wrong is said. */
export function actionButton(text, act, className = "button") {
  const made = button(text, async () => {
    made.disabled = true;
    try {
      await act();
    } catch (error) {
      notice(`${text}: ${error.message}`, "bad");
    } finally {
      made.disabled = false;
    }
  }, className);
  return made;
}
