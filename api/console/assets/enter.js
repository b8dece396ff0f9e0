// Turns a link that was printed on the vault's machine into a session, when its owner says so.
"use strict";
const words = Object.fromEntries(
  [...document.querySelectorAll("#words li")].map((one) => [one.dataset.key, one.textContent]),
);
const code = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
document.getElementById("enter").addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    const answer = await fetch("/console/enter", {method: "POST", headers: {"Oubliette-Enter": code}});
    if (answer.ok) {
      location.assign("/console");
      return;
    }
    document.getElementById("notice").textContent = `${words.refused}: ${(await answer.json()).code}`;
  } catch {
    document.getElementById("notice").textContent = words.unreachable;
  }
});
