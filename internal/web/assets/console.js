// What the console does better with scripts. Without them every page works, with more clicks.
"use strict";

// A button that copies is of no use without a script, so it is hidden until one is here.
function reveal(root) {
  for (const button of root.querySelectorAll("button.copy[hidden]")) button.hidden = false;
}

function say(text) {
  const news = document.getElementById("news");
  if (news) news.textContent = text;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    say("Copied.");
  } catch {
    say("The browser did not allow copying. Select the text and copy it.");
  }
});

// Pages tell times in UTC. A script knows where the reader is; UTC stays in the title.
function localize(root) {
  const formatOf = (timeStyle) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle });
  const short = formatOf("short"), exact = formatOf("medium");
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = (time.classList.contains("exact") ? exact : short).format(new Date(time.dateTime));
  }
}

// On a narrow screen the menu is one line that scrolls: it shows where the reader is.
document.addEventListener("DOMContentLoaded", () => {
  const list = document.querySelector(".menu ul"), here = list && list.querySelector("[aria-current]");
  if (here) list.scrollLeft = here.offsetLeft - (list.clientWidth - here.offsetWidth) / 2;
});

function improve(root) {
  reveal(root);
  localize(root);
}

document.addEventListener("DOMContentLoaded", () => improve(document));
document.addEventListener("htmx:afterSwap", () => improve(document));
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "fresh") return;
  const list = document.getElementById("list");
  if (list && list.dataset.says) say(list.dataset.says);
  if (list && document.activeElement === document.body) { // what had the focus was in the list that is gone
    list.tabIndex = -1;
    list.focus({ preventScroll: true });
  }
});

// The audit log can be followed: new events are fetched without moving the focus, and wait while somebody reads the list.
const followEvery = 3000;
let follower = 0;

function follow() {
  const button = document.getElementById("follow");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const on = !follower;
    button.setAttribute("aria-pressed", String(on));
    clearInterval(follower);
    follower = on ? setInterval(fetchNews, followEvery) : 0;
    document.getElementById("follow-says").textContent = on ? "New events appear by themselves." : "";
    if (on) fetchNews();
  });
}

function fetchNews() {
  if (document.hidden) return;
  htmx.ajax("GET", location.href, { target: "#fresh", select: "#events", swap: "innerHTML" });
}

function reads(list) {
  const selection = getSelection();
  return list.matches(":hover") || list.contains(document.activeElement) || (!selection.isCollapsed && list.contains(selection.anchorNode));
}

function showNews() {
  const fresh = document.getElementById("fresh"), list = document.getElementById("list");
  const all = [...fresh.querySelectorAll("#events > li")];
  const known = new Set([...list.querySelectorAll("#events > li")].map((line) => line.id));
  const news = all.filter((line) => !known.has(line.id));
  const says = document.getElementById("follow-says");
  if (news.length && !reads(list)) {
    const events = list.querySelector("#events");
    if (events) events.prepend(...news);
    else list.replaceChildren(fresh.firstElementChild);
    says.textContent = news.length === all.length && known.size ? "Many new events: the page shows the newest." : count(news.length) + ".";
    if (news.length === all.length) for (const line of [...list.querySelectorAll("#events > li")].slice(all.length)) line.remove();
  } else if (news.length) {
    says.textContent = count(news.length) + ": shown when you leave the list.";
  }
  fresh.replaceChildren();
}

function count(n) { return n === 1 ? "1 new event" : n + " new events"; }

document.addEventListener("DOMContentLoaded", follow);
document.addEventListener("htmx:afterSwap", (event) => { if (event.target.id === "fresh") showNews(); });
