// Two screens for whoever keeps the cluster: a new device joins, and who may do what by which token.
import { send } from "/static/api.js";
import { attributes, byId, copyable, element, pill, replaceKeyed } from "/static/dom.js";
import { clockTime, duration, millis } from "/static/format.js";
import { actionButton, confirmed, notice } from "/static/panel.js";

// -- join

const joining = { until: 0, timer: 0 };

/** Without join strings on this main the plain way is shown; it needs no question. */
export function enterJoin() {
  const host = location.hostname;
  const local = ["127.0.0.1", "localhost", "[::1]"].includes(host);
  byId("join-plain-command").replaceChildren(copyable(`retire-cluster join ${local ? "ADDRESS-OF-THIS-MAIN" : host}`, "the command"));
  byId("join-local").hidden = !local;
}

byId("join-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = byId("join-error");
  error.textContent = "";
  const asked = { name: byId("join-name").value.trim(), role: byId("join-role").value.trim() };
  try {
    const body = Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
    drawJoin(await send("POST", "join-tokens", body));
  } catch (problem) {
    byId("join-result").hidden = true;
    error.textContent = problem.errors?.map((each) => `${each.field}: ${each.message}`).join("; ") || problem.message;
  }
});

function drawJoin(made) {
  byId("join-command").replaceChildren(copyable(made.command ?? `retire-cluster join ${made.join_string}`, "the command"));
  const picture = byId("join-qr");
  picture.replaceChildren();
  if (made.qr_svg) {
    const image = element("img", "");
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(made.qr_svg)}`;
    image.alt = "QR code of the join string";
    picture.append(image);
  }
  joining.until = millis(made.expires_at);
  clearInterval(joining.timer);
  joining.timer = setInterval(drawLeft, 1000);
  byId("join-result").hidden = false;
  drawLeft();
  byId("join-result").focus();
}

function drawLeft() {
  const left = Math.round((joining.until - Date.now()) / 1000);
  const over = !(left > 0);
  byId("join-left").textContent = over ? "It is over; make another one." : `Good for one device, for another ${duration(left)}.`;
  byId("join-result").classList.toggle("over", over);
  if (over) clearInterval(joining.timer);
}

// -- tokens

/** Ask for the list; who may not see it is told what to do. */
export async function enterTokens() {
  const why = byId("tokens-why");
  why.textContent = "";
  byId("token-made").hidden = true;
  byId("token-value").replaceChildren();
  try {
    drawTokens((await send("GET", "tokens")).tokens);
    byId("tokens-part").hidden = false;
  } catch (error) {
    byId("tokens-part").hidden = true;
    why.textContent = error.message;
  }
}

function drawTokens(tokens) {
  byId("tokens-empty").hidden = tokens.length > 0;
  replaceKeyed(byId("tokens-rows"), tokens, (each) => each.token_id, (each) => {
    const over = each.expires_at && millis(each.expires_at) < Date.now();
    const revoke = actionButton("Revoke", async () => {
      if (!(await confirmed(`Revoke ${each.name}?`, "Whoever uses it is locked out at once.", "Revoke it"))) return;
      await send("DELETE", `tokens/${encodeURIComponent(each.token_id)}`);
      notice(`${each.name} was revoked.`);
      await enterTokens();
    }, "button danger");
    revoke.setAttribute("aria-label", `Revoke ${each.name}`);
    return element(
      "tr", "",
      element("td", "", element("span", "text", each.name), element("span", "sub mono", each.token_id)),
      element("td", "", each.role),
      element("td", "nowrap", clockTime(each.created_at)),
      element("td", "nowrap", over ? pill("expired") : each.expires_at ? clockTime(each.expires_at) : "never"),
      element("td", "nowrap", each.last_used_at ? clockTime(each.last_used_at) : "never"),
      element("td", "right", revoke),
    );
  });
}

byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = byId("token-error");
  error.textContent = "";
  const days = Number(byId("token-days").value);
  const body = { name: byId("token-name").value.trim(), role: byId("token-role").value };
  if (days > 0) body.ttl_s = days * 86400;
  try {
    const made = await send("POST", "tokens", body);
    byId("token-name").value = "";
    await enterTokens();
    byId("token-value").replaceChildren(copyable(made.token, "the token"));
    byId("token-made").hidden = false;
    byId("token-made").focus();
  } catch (problem) {
    error.textContent = problem.errors?.map((each) => `${each.field}: ${each.message}`).join("; ") || problem.message;
  }
});
for (const id of ["join-error", "token-error"]) attributes(byId(id), { role: "alert" });
