// Begins the page: which view is shown, the header, and asking again every two seconds for what is on the screen, while
// somebody looks at it.

import * as api from "./api.js";
import { fill, h, write } from "./elements.js";
import * as format from "./format.js";
import * as plot from "./plot.js";
import * as state from "./state.js";
import { bindShortcuts } from "./shortcuts.js";

const PERIOD = 2000; // milliseconds
const VIEWS = ["overview", "search", "compare", "retraining"];
const content = document.getElementById("content");
const panel = document.getElementById("individual");
const shown = { content: null, panel: null }; // {name, key, module, ctx, controller, ready}
const work = { wanted: false, busy: false, timer: 0 };
let paused = false;
let begun = false; // whether the page has shown what its first address says

// Brings the screen to what the address says, and then up to date. One at a time; asked for meanwhile, once more after.
async function update() {
  work.wanted = true;
  if (work.busy) return;
  work.busy = true;
  clearTimeout(work.timer);
  try {
    while (work.wanted) {
      work.wanted = false;
      const name = VIEWS.includes(state.get("view")) ? state.get("view") : "overview";
      await Promise.all([
        place("content", content, name, ["search", "retraining"].includes(name) ? state.get("run") : ""),
        place("panel", panel, name === "search" && state.get("id") !== null ? "individual" : null, state.get("run")),
        header(name),
      ]);
    }
  } finally {
    work.busy = false;
    begun = true;
    next();
  }
}

function next() {
  clearTimeout(work.timer);
  if (!paused && !document.hidden) work.timer = setTimeout(update, PERIOD);
}

// Shows a view in an element, or refreshes the one that is there. `subject` is what it is about: another one is drawn
// anew.
async function place(where, root, name, subject) {
  const before = shown[where];
  const key = `${name} ${subject}`;
  if (before && before.key === key && before.ready) {
    if (before.module.refresh) await guarded(root, () => before.module.refresh(root, before.ctx), before);
    return;
  }
  const from = { focus: document.activeElement, height: scrollY }; // for a view that is closed again
  before?.controller.abort();
  plot.purge(root);
  root.replaceChildren();
  shown[where] = null;
  if (begun && root === content && before?.name !== name) {
    scrollTo(0, 0);
    content.focus({ preventScroll: true });
  }
  root.hidden = name === null;
  document.body.classList.toggle("with-individual", !panel.hidden);
  if (name === null) return;
  const controller = new AbortController();
  const view = {
    name,
    key,
    controller,
    ctx: { state, api, signal: controller.signal, from, first: !begun },
    module: null,
    ready: false,
  };
  shown[where] = view;
  if (where === "content") document.title = name === "overview" ? "Runs – hpcnas" : `${name} – hpcnas`;
  await guarded(
    root,
    async () => {
      view.module = await import(`./views/${name}.js`);
      await view.module.render(root, view.ctx);
      view.ready = true;
    },
    view,
  );
}

// A view that fails says so in its place, and is tried again; the rest of the page goes on.
async function guarded(root, act, view) {
  try {
    await act();
    root.querySelector(":scope > .trouble")?.remove();
    delete root.dataset.trouble;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof api.ServerError)) console.error(error);
    if (view.ready && error.status === 0) return; // what is there stays: the banner says that it may be old
    const words = error instanceof api.ServerError ? error.message : `This view has failed: ${error.message}`;
    const known = root.dataset.trouble === words; // told once, however often it is tried
    root.dataset.trouble = words;
    const trouble =
      root.querySelector(":scope > .trouble") ?? h("p", { class: "trouble", role: known ? null : "alert" });
    write(trouble, words);
    if (view.ready) root.prepend(trouble);
    else {
      plot.purge(root);
      const close = root === panel && h("a", { href: state.link({ id: null }), id: "individual-close" }, "Close");
      fill(root, h(root === panel ? "h2" : "h1", {}, "Nothing to show"), trouble, close);
    }
  }
}

// ── the header ──────────────────────────────────────────────────────────────────────────────────────────────────────
async function header(name) {
  const runs = state.all("run");
  document.getElementById("nav-overview").href = state.link({ run: runs }, { fresh: true });
  document.getElementById("nav-compare").href = state.link({ view: "compare", run: runs }, { fresh: true });
  document.getElementById("nav-overview").ariaCurrent = name === "overview" ? "page" : null;
  document.getElementById("nav-compare").ariaCurrent = name === "compare" ? "page" : null;
  const box = document.getElementById("run");
  if (name !== "search" && name !== "retraining") {
    box.hidden = true;
    return;
  }
  try {
    if (name === "search") tell(await api.json("api/search", { run: runs[0] }));
    else tellRetraining(await api.json("api/retraining", { run: runs[0] }));
    box.hidden = false;
  } catch {
    // the view says what is wrong
  }
}

function tell(run) {
  say(run, run.done, run.total, `${format.whole(run.done)} of ${format.whole(run.total)}`);
  const known = run.best_id !== null;
  const link = known && h("a", { href: state.link({ id: run.best_id }) }, format.fitness(run.best, run.measure));
  const place = document.getElementById("run-best");
  const shown = known ? `${link.textContent} ${link.hash}` : "none";
  if (place.dataset.shown !== shown) {
    place.dataset.shown = shown;
    fill(place, link ? ["best ", link] : "no result yet");
  }
  ends(run);
}

function tellRetraining(run) {
  say(run, run.steps_done, run.steps, `${format.whole(run.steps_done)} of ${format.whole(run.steps)} steps`);
  document.getElementById("run-best").dataset.shown = "";
  write(document.getElementById("run-best"), "");
  ends(run);
}

function say(run, done, total, words) {
  document.title = `${run.name} – hpcnas`;
  write(document.getElementById("run-name"), run.name);
  const badge = document.getElementById("run-state");
  write(badge, run.state);
  badge.dataset.state = format.condition(run);
  const progress = document.getElementById("run-progress");
  progress.max = Math.max(1, total ?? 1);
  progress.value = done ?? 0;
  write(document.getElementById("run-done"), words);
}

function ends(run) {
  const known = run.running && typeof run.remaining === "number";
  const words = known ? `ends ${format.clock(run.time + run.remaining)} (in ${format.duration(run.remaining)})` : "";
  write(document.getElementById("run-end"), words);
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
