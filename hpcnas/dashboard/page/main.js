// Begins the page: which view is shown, and asking again every two seconds for what is on the screen, while somebody
// looks at it.

import * as api from "./api.js";
import { fill, h, write } from "./elements.js";
import { header } from "./header.js";
import * as plot from "./plot.js";
import * as state from "./state.js";
import { bindShortcuts } from "./shortcuts.js";

const PERIOD = 2000; // milliseconds
const VIEWS = ["overview", "search", "compare", "retraining"];
const content = document.getElementById("content");
const panel = document.getElementById("individual");
const shown = { content: null, panel: null }; // {name, key, root, module, ctx, controller, ready}
const work = { wanted: false, busy: false, timer: 0 };
let paused = false;
let begun = false; // whether the page has shown what its first address says

// The view that the address asks for, and the run that it is about.
function asked() {
  const name = VIEWS.includes(state.get("view")) ? state.get("view") : "overview";
  return { name, subject: ["search", "retraining"].includes(name) ? state.get("run") : "" };
}

const keyOf = (name, subject) => `${name} ${subject}`;

// Brings the screen to what the address says, and then up to date. One at a time; asked for meanwhile, once more after.
async function update() {
  work.wanted = true;
  if (work.busy) {
    leave();
    return;
  }
  work.busy = true;
  clearTimeout(work.timer);
  try {
    while (work.wanted) {
      work.wanted = false;
      const { name, subject } = asked();
      await Promise.all([
        place("content", content, name, subject),
        place("panel", panel, name === "search" && state.get("id") !== null ? "individual" : null, subject),
        header(name, shown.content.controller.signal),
      ]);
    }
  } finally {
    work.busy = false;
    begun = true;
    next();
  }
}

// Nobody waits any more for a view that the address has left, however long the server takes.
function leave() {
  const { name, subject } = asked();
  if (!shown.content || shown.content.key === keyOf(name, subject)) return;
  for (const view of [shown.content, shown.panel]) view?.controller.abort();
}

function next() {
  clearTimeout(work.timer);
  if (!paused && !document.hidden) work.timer = setTimeout(update, PERIOD);
}

// Shows a view in a frame, or refreshes the one that is there. `subject` is what it is about: another one is drawn
// anew, in an element of its own.
async function place(where, frame, name, subject) {
  const before = shown[where];
  const key = keyOf(name, subject);
  if (before && before.key === key && before.ready && !before.controller.signal.aborted) {
    await guarded(frame, before, () => before.module.refresh(before.root, before.ctx));
    return;
  }
  const from = { focus: document.activeElement, height: scrollY }; // for a view that is closed again
  before?.controller.abort();
  plot.purge(frame);
  frame.replaceChildren();
  shown[where] = null;
  if (begun && frame === content && before?.name !== name) {
    scrollTo(0, 0);
    content.focus({ preventScroll: true });
  }
  frame.hidden = name === null;
  document.body.classList.toggle("with-individual", !panel.hidden);
  if (name === null) return;
  const controller = new AbortController();
  const view = {
    name,
    key,
    root: h("div"),
    controller,
    ctx: { state, api, signal: controller.signal, from, first: !begun },
    module: null,
    ready: false,
  };
  shown[where] = view;
  frame.append(view.root);
  if (where === "content") document.title = name === "overview" ? "Runs – hpcnas" : `${name} – hpcnas`;
  await guarded(frame, view, async () => {
    view.module = await import(`./views/${name}.js`);
    await view.module.render(view.root, view.ctx);
    view.ready = true;
  });
}

// A view that fails says so in its place, and is tried again; the rest of the page goes on.
async function guarded(frame, view, act) {
  const { root } = view;
  try {
    await act();
    root.querySelector(":scope > .trouble")?.remove();
    delete frame.dataset.trouble;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof api.ServerError)) console.error(error);
    if (view.ready && error.status === 0) return; // what is there stays: the banner says that it may be old
    const words = error instanceof api.ServerError ? error.message : `This view has failed: ${error.message}`;
    const known = frame.dataset.trouble === words; // told once, however often it is tried
    frame.dataset.trouble = words;
    const trouble =
      root.querySelector(":scope > .trouble") ?? h("p", { class: "trouble", role: known ? null : "alert" });
    write(trouble, words);
    if (view.ready) root.prepend(trouble);
    else {
      plot.purge(root);
      const close = frame === panel && h("a", { href: state.link({ id: null }), id: "individual-close" }, "Close");
      fill(root, h(frame === panel ? "h2" : "h1", {}, "Nothing to show"), trouble, close);
    }
  }
}

// ── pause and colours ───────────────────────────────────────────────────────────────────────────────────────────────
function pause() {
  paused = !paused;
  const button = document.getElementById("pause");
  button.ariaPressed = String(paused);
  write(button, paused ? "Go on" : "Pause");
  document.body.classList.toggle("paused", paused);
  if (paused) clearTimeout(work.timer);
  else update();
}

function bindTheme() {
  const select = document.getElementById("theme");
  select.value = localStorage.getItem("hpcnas-theme") ?? "auto";
  const apply = () => {
    document.documentElement.dataset.theme = select.value;
    localStorage.setItem("hpcnas-theme", select.value);
    plot.redraw();
  };
  select.addEventListener("change", () => {
    apply();
    update();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.redraw();
    update();
  });
  apply();
}

new ResizeObserver(([{ target }]) => {
  document.documentElement.style.setProperty("--header", `${target.offsetHeight}px`);
}).observe(document.getElementById("header"));
bindTheme();
document.getElementById("pause").addEventListener("click", pause);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
bindShortcuts({ pause });
state.subscribe(update);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(work.timer) : update()));
update();
