// A search: its numbers, and tabs for all the rest. Each tab is a module of its own, with `render` and `refresh` as a
// view has them, and is given an element of its own each time that it is opened.

import { h, set, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { problems, tiles } from "./top.js";

const TABS = [
  ["course", "Course"],
  ["individuals", "Individuals"],
  ["motifs", "Motifs"],
  ["predictions", "Predictions"],
  ["machine", "Machine"],
  ["settings", "Settings"],
  ["log", "Log"],
];

export async function render(root, ctx) {
  const { state } = ctx;
  const view = {
    title: h("h1", { id: "search-title" }),
    path: h("p", { class: "muted" }),
    problems: problems("search-problems"),
    tiles: tiles("search-tiles"),
    tabs: h("div", { role: "tablist", "aria-label": "About this search" }),
    panel: h("div", { role: "tabpanel", id: "tabpanel", tabindex: "-1" }),
    shown: null,
  };
  for (const [name, words] of TABS) {
    const open = () => state.set({ tab: name });
    view.tabs.append(
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          "aria-controls": "tabpanel",
          onclick: open,
          dataset: { tab: name },
        },
        words,
      ),
    );
  }
  view.tabs.addEventListener("keydown", (event) => moveAlong(view.tabs, event));
  root.append(h("div", { class: "head" }, view.title, view.path), view.problems, view.tiles, view.tabs, view.panel);
  root.view = view;
  plot.load().catch(() => {}); // while data are asked for; whoever draws hears of it
  ctx.signal.addEventListener("abort", () => view.shown?.controller.abort());
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  const { view } = root;
  const search = await ctx.api.json("api/search", { run: ctx.state.get("run") }, { signal: ctx.signal });
  write(view.title, search.name);
  write(view.path, `${search.path} · ${search.strategy}`);
  view.problems.update(search.problems);
  view.tiles.update(numbers(search));
  view.tabs.querySelector("#tab-predictions").hidden = !search.has?.predictions;
  await showTab(view, { ...ctx, search });
}

function numbers(run) {
  const best = run.bests[0];
  const deviation = typeof best?.std === "number" ? `± ${format.fitness(best.std, run.measure)}` : "";
  return [
    [
      "evaluated",
      format.whole(run.done),
      `of ${format.whole(run.total)}${run.stopped ? `, ${format.whole(run.stopped)} stopped early` : ""}`,
    ],
    ["best", format.fitness(best?.fitness, run.measure), best ? `individual ${best.id} ${deviation}` : ""],
    ["its parameters", format.large(best?.parameters), best ? `after ${format.whole(best.mutations)} mutations` : ""],
    [
      "pace",
      run.running ? format.pace(run.rate) : "–",
      run.running && typeof run.remaining === "number" ? `ends in ${format.duration(run.remaining)}` : run.state,
    ],
    ["in flight", format.whole(run.in_flight), `${format.whole(run.left)} to come`],
    ["failed", format.whole(run.failed), failures(run)],
    ["worker hours", format.hours(run.hours), `${format.share(run.busy_share)} busy`],
    ["trainings", format.whole(run.trainings), run.trainings_limit ? `of ${format.whole(run.trainings_limit)}` : ""],
  ];
}

function failures(run) {
  const kinds = (run.failures ?? []).map((one) => `${format.whole(one.attempts)} ${format.word(one.kind)}`);
  return kinds.length ? kinds.join(", ") : "no failed attempt";
}

// ── tabs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async function showTab(view, ctx) {
  const wanted = ctx.state.get("tab");
  const [name, words] = TABS.find(([one]) => one === wanted) ?? TABS[0];
  for (const tab of view.tabs.children) {
    const now = tab.dataset.tab === name;
    set(tab, "aria-selected", String(now));
    tab.tabIndex = now ? 0 : -1;
  }
  set(view.panel, "aria-labelledby", `tab-${name}`);
  if (view.shown?.name === name && view.shown.ready) {
    view.shown.ctx.search = ctx.search;
    await view.shown.module.refresh(view.shown.root, view.shown.ctx);
    return;
  }
  view.shown?.controller.abort();
  plot.purge(view.panel);
  const controller = new AbortController();
  const root = h("div", { class: "stack" });
  const shown = { name, root, controller, ctx: { ...ctx, signal: controller.signal }, module: null, ready: false };
  view.shown = shown;
  view.panel.replaceChildren(h("h2", { class: "unseen" }, words), root);
  shown.module = await import(`./${name}.js`);
  await shown.module.render(root, shown.ctx);
  shown.ready = true;
}

function moveAlong(tabs, event) {
  const shown = [...tabs.children].filter((tab) => !tab.hidden);
  const place = shown.indexOf(document.activeElement);
  const steps = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: shown.length - 1 };
  if (place < 0 || !(event.key in steps)) return;
  event.preventDefault();
  const next = shown[(steps[event.key] + shown.length) % shown.length];
  next.focus();
  next.click();
}
