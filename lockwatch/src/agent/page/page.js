"use strict";
// The agent makes every section, escaped; this puts new ones in place, lets ages run, and says when the news stop.

const SILENT_AFTER_MS = 10000;
const waiting = new Map(); // sections that came while their text was selected
let ahead = 0; // of the agent's clock to this one, in milliseconds
let heard = Date.now();

// As the agent writes it: two units at most.
function words(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const pair = (big, unit, small, smallUnit) => small ? `${big} ${unit} ${small} ${smallUnit}` : `${big} ${unit}`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return pair(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return pair(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

function ages(within) {
  const now = Date.now() + ahead;
  for (const age of within.querySelectorAll(".age")) {
    const text = words(now - Number(age.dataset.ms));
    if (age.textContent !== text) age.textContent = text;
  }
}

function isSelected(section) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.rangeCount > 0 && selection.getRangeAt(0).intersectsNode(section);
}

// Focus and sideways scrolling stay as they are.
function put(section, html) {
  const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
  const left = new Map([...section.querySelectorAll(".wide")].map((wide) => [wide.id, wide.scrollLeft]));
  const made = document.createElement("template");
  made.innerHTML = html;
  ages(made.content);
  section.replaceChildren(made.content);
  for (const [id, x] of left) {
    const wide = document.getElementById(id);
    if (wide) wide.scrollLeft = x;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (section.id === "banner") {
    const word = section.querySelector(".word")?.lastChild?.textContent.trim();
    if (word) document.title = `${word} - lockwatch`;
  }
}

function say(live, text) {
  document.body.classList.toggle("stale", !live);
  const link = document.getElementById("link");
  if (link.textContent !== text) link.textContent = text;
}

let asOf = document.getElementById("link").textContent.replace(" Reload for news.", "");
const news = new EventSource("/page/stream");

for (const section of document.querySelectorAll("main > section")) {
  news.addEventListener(section.id, (event) => {
    // A banner is never held back.
    if (section.id !== "banner" && isSelected(section)) waiting.set(section, event.data);
    else put(section, event.data);
  });
}

// The agent has looked, whether anything has changed or not.
news.addEventListener("seen", (event) => {
  heard = Date.now();
  ahead = Number(event.data) - heard;
  asOf = `As of ${new Date(Number(event.data)).toISOString().slice(0, 19).replace("T", " ")} UTC.`;
  say(true, `Live. ${asOf}`);
});

document.addEventListener("selectionchange", () => {
  for (const [section, html] of waiting) {
    if (!isSelected(section)) {
      waiting.delete(section);
      put(section, html);
    }
  }
});

setInterval(() => {
  if (Date.now() - heard > SILENT_AFTER_MS) say(false, `NOT LIVE: no news from the agent. ${asOf}`);
  else ages(document);
}, 1000);
