// Who looks at the page: a session by cookie, begun with a login link or with the token that is asked for.
import { get } from "/static/api.js";
import { byId, element } from "/static/dom.js";

const dialog = byId("sign-in");
let asking = null;

/** Ask for a token once, however many want it; true if one was given and the main took it. */
export function signIn(why = "") {
  asking ??= shown(why).finally(() => { asking = null; });
  return asking;
}

function shown(why) {
  byId("sign-in-why").textContent = why;
  byId("sign-in-error").textContent = "";
  dialog.returnValue = "";
  byId("sign-in-token").value = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "in"), { once: true });
  });
}

/** Begin a session: the main sets a cookie that scripts do not see, and the token is not kept. */
async function accept(token) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const response = await fetch("/login", { method: "POST", headers, body: JSON.stringify({ token }) });
  if (response.ok) return;
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail || `the main answered ${response.status}`);
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = byId("sign-in-token").value.trim();
  try {
    await accept(token);
    dialog.close("in");
    drawSession();
  } catch (error) {
    byId("sign-in-error").textContent = error.message;
    byId("sign-in-token").select();
  }
});
byId("sign-in-cancel").addEventListener("click", () => dialog.close(""));

async function signOut() {
  await fetch("/logout", { method: "POST" }).catch(() => null);
  drawSession();
}

/** Say in the header who is signed in, and offer to sign in or out. */
export async function drawSession() {
  const session = await get("session").catch(() => null);
  const place = byId("session");
  place.replaceChildren();
  if (session?.how === "cookie") {
    place.append(element("span", "sub", `${session.name.replace(/^token:/, "")} · ${session.role}`));
    place.append(pressed("Sign out", signOut));
  } else {
    place.append(pressed("Sign in", () => signIn("Looking needs no token here; changing something does.")));
  }
}

function pressed(text, onPress) {
  const made = element("button", "quiet", text);
  made.type = "button";
  made.addEventListener("click", onPress);
  return made;
}
