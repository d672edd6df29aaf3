"use strict";
// Orders and filters the lines. The state lies in the address, so a view can be linked to:
// #sort=hurt&method=NAME&script=latin&height=0-32
const form = document.getElementById("controls");
const list = document.getElementById("list");
const lines = [...list.children].map((element) => ({
  element,
  number: Number(element.dataset.number),
  script: element.dataset.script,
  height: Number(element.dataset.height),
  changes: JSON.parse(element.dataset.changes),
  scores: JSON.parse(element.dataset.scores),
}));
const start = Object.fromEntries(new FormData(form));

function show() {
  const { method, sort, script, low, high } = Object.fromEntries(new FormData(form));
  const key = {
    hurt: (line) => line.changes[method],
    helped: (line) => -line.changes[method],
    read: (line) => line.scores[method],
    data: (line) => line.number,
  }[sort];
  const rank = (line) => (Number.isFinite(key(line)) ? key(line) : Infinity); // without a score: last
  lines.sort((a, b) => (rank(a) === rank(b) ? a.number - b.number : rank(a) - rank(b)));
  let shown = 0, hurt = 0, helped = 0;
  for (const line of lines) {
    const fits =
      (!script || line.script === script) && line.height >= Number(low) && (high === "" || line.height <= Number(high));
    line.element.hidden = !fits;
    shown += fits;
    hurt += fits && line.changes[method] < 0;
    helped += fits && line.changes[method] > 0;
  }
  list.append(...lines.map((line) => line.element));
  for (const figure of list.getElementsByTagName("figure")) {
    figure.classList.toggle("chosen", figure.dataset.method === method);
  }
  document.getElementById("none").hidden = shown > 0;
  document.getElementById("summary").textContent =
    `${shown} of ${lines.length} lines: ${method} reads ${hurt} worse, ${helped} better, ${shown - hurt - helped} alike`;
}

function write() {
  const { method, sort, script, low, high } = Object.fromEntries(new FormData(form));
  const state = new URLSearchParams({ sort, method });
  if (script) state.set("script", script);
  if (low || high) state.set("height", `${low || 0}-${high}`);
  history.replaceState(null, "", `#${state}`);
}

function read() {
  const hash = location.hash.slice(1);
  if (hash.includes("=")) {
    const state = Object.fromEntries(new URLSearchParams(hash));
    const [low = "", high = ""] = (state.height || "").split("-");
    for (const [name, value] of Object.entries({ ...start, ...state, low, high })) {
      const field = form.elements.namedItem(name);
      if (!field) continue;
      field.value = value;
      if (field.selectedIndex === -1) field.value = start[name]; // an address from another report
    }
  }
  show();
  const target = hash && !hash.includes("=") && document.getElementById(hash);
  if (target) {
    target.hidden = false;
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  }
}

form.hidden = false;
form.addEventListener("input", () => { show(); write(); });
form.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", read);
read();

// j and k: the next line and the one before
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, dialog")) return;
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const visible = lines.filter((line) => !line.element.hidden).map((line) => line.element);
  const at = visible.indexOf(document.activeElement.closest("article"));
  const next = visible[at < 0 ? 0 : Math.min(Math.max(at + step, 0), visible.length - 1)];
  if (next) {
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
});

// one picture large, the methods changing in place
const dialog = document.getElementById("zoom");
let opened = null;

function enlarge(button) {
  opened = button;
  const small = button.querySelector("img");
  const large = dialog.querySelector("img");
  large.src = small.src;
  large.alt = small.alt;
  document.getElementById("zoom-title").textContent = small.alt;
}

function turn(step) {
  const buttons = [...opened.closest(".views").querySelectorAll(".zoom")];
  enlarge(buttons[(buttons.indexOf(opened) + step + buttons.length) % buttons.length]);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".zoom");
  if (button) {
    enlarge(button);
    dialog.showModal();
  } else if (event.target === dialog) {
    dialog.close();
  }
});
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    event.preventDefault();
    turn(step);
  }
});
dialog.addEventListener("close", () => opened.focus());
document.getElementById("before").addEventListener("click", () => turn(-1));
document.getElementById("after").addEventListener("click", () => turn(1));
