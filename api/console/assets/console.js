// The console: recordings in scope, a reason, and the sound. Every text is set as text.
"use strict";
const $ = (id) => document.getElementById(id);
const words = Object.fromEntries(
  [...document.querySelectorAll("#words li")].map((one) => [one.dataset.key, one.textContent]),
);
const player = $("player");
let chosen = null;
let hearing = null;
let following = null;

async function call(method, path, body) {
  const headers = {"Accept": "application/json", "Oubliette-CSRF": document.body.dataset.token};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = {method, headers, credentials: "same-origin", redirect: "error"};
  if (body !== undefined) sent.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, sent);
  } catch {
    say(words.unreachable);
    return null;
  }
  const said = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  refused(answer.status, said);
  return null;
}

function refused(status, said) {
  const again = chosen === null ? "" : `&recording=${encodeURIComponent(chosen.id)}`;
  if (status === 401 && said.code === "step-up-required") {
    say(words.step_up, `/console/login?step_up=1${again}`);
  } else if (status === 401) {
    location.assign("/console");
  } else if (said.code === "approval-required") {
    say(`${words.approval} ${said.approval_id ?? ""}`);
  } else {
    const why = [said.why, said.problem, said.retry_after_s && `${said.retry_after_s} s`];
    say(`${words.refused}: ${[said.code ?? status, ...why].filter(Boolean).join(", ")}`);
  }
}

function say(text, address) {
  const notice = $("notice");
  notice.textContent = text;
  if (address) {
    const link = document.createElement("a");
    link.href = address;
    link.id = "step-up";
    link.textContent = " →";
    notice.append(link);
  }
}

function spell(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

function facts(one) {
  const began = new Date(one.started_at).toLocaleString(document.documentElement.lang);
  return [began, one.campaign_slug, one.agent ?? "", one.contact ?? "", spell(one.duration_ms)];
}

function row(one) {
  const line = document.createElement("tr");
  line.dataset.id = one.id;
  for (const text of facts(one)) {
    const cell = document.createElement("td");
    cell.textContent = text;
    line.append(cell);
  }
  const last = document.createElement("td");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words.listen;
  button.addEventListener("click", () => choose(one));
  last.append(button);
  line.append(last);
  return line;
}

async function show(path) {
  const found = await call("GET", path);
  if (found === null) return;
  $("rows").append(...found.items.map(row));
  if (!$("rows").childElementCount) say(words.empty);
  following = found.next;
  $("more").hidden = !following;
}

function start() {
  $("rows").replaceChildren();
  say("");
  const campaign = $("campaign").value.trim();
  const wanted = new URLSearchParams({limit: "25"});
  if (campaign) wanted.set("campaign", campaign);
  return show(`/v1/recordings?${wanted}`);
}

function choose(one) {
  end();
  chosen = one;
  say(one.browser_playable ? "" : words.not_playable);
  $("chosen").textContent = facts(one).filter(Boolean).join(" · ");
  $("asking").hidden = false;
  $("hearing").hidden = true;
  $("listen").hidden = false;
  $("reason").focus();
}

async function ask() {
  $("ask").disabled = true;
  const asked = {purpose: $("purpose").value, reason: $("reason").value};
  const granted = await call("POST", `/v1/recordings/${chosen.id}/listens`, asked);
  $("ask").disabled = false;
  if (granted === null) return;
  say("");
  hearing = granted.id;
  $("entry").textContent = granted.entry_id;
  $("asking").hidden = true;
  $("hearing").hidden = false;
  player.src = granted.audio_url;
  player.play().catch(() => undefined);
}

function end() {
  if (hearing === null) return;
  const over = hearing;
  hearing = null;
  player.removeAttribute("src");
  player.load();
  const headers = {"Oubliette-CSRF": document.body.dataset.token};
  fetch(`/v1/listens/${over}`, {method: "DELETE", headers, keepalive: true}).catch(() => undefined);
  $("hearing").hidden = true;
}

player.addEventListener("error", () => {
  if (hearing === null) return;
  end();
  $("asking").hidden = false;
  say(words.ended);
});
$("ask").addEventListener("click", ask);
$("cancel").addEventListener("click", () => { end(); $("listen").hidden = true; });
$("stop").addEventListener("click", () => { end(); $("listen").hidden = true; say(words.stopped); });
$("show").addEventListener("click", start);
$("more").addEventListener("click", () => show(following));
$("log-out").addEventListener("click", async () => {
  end();
  const said = await call("POST", "/console/logout");
  if (said !== null) location.assign(said.location);
});
addEventListener("pagehide", end);

(async () => {
  await start();
  if (document.body.dataset.recording) {
    const one = await call("GET", `/v1/recordings/${document.body.dataset.recording}`);
    if (one !== null) choose(one);
  }
})();
