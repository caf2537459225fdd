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
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) time.textContent = format.format(new Date(time.dateTime));
}

function improve(root) {
  reveal(root);
  localize(root);
}

document.addEventListener("DOMContentLoaded", () => improve(document));
document.addEventListener("htmx:afterSwap", () => improve(document));
document.addEventListener("htmx:afterSettle", () => {
  const list = document.getElementById("list");
  if (list && list.dataset.says) say(list.dataset.says);
});
