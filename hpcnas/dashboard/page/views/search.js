// A search: its numbers, and tabs for all the rest. Each tab is a module of its own, with `render` and `refresh` as a
// view has them.

import { fill, follow, h, set, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";

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
    problems: h("ul", { class: "problems", id: "search-problems", hidden: true }),
    tiles: h("dl", { class: "tiles", id: "search-tiles" }),
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
  view.problems.hidden = search.problems.length === 0;
  follow(
    view.problems,
    search.problems,
    (text) => text,
    (text) => h("li", {}, text),
  );
  follow(
    view.tiles,
    tiles(search),
    (tile) => tile[0],
    newTile,
    (element, [, value, more]) => {
      write(element.children[1], value);
      write(element.children[2], more);
    },
  );
  view.tabs.querySelector("#tab-predictions").hidden = !search.has?.predictions;
  await showTab(view, { ...ctx, search });
}

function tiles(run) {
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

function newTile([name]) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd"), h("dd"));
}

// ── tabs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async function showTab(view, ctx) {
  const names = TABS.map(([name]) => name);
  const wanted = ctx.state.get("tab");
  const name = names.includes(wanted) ? wanted : "course";
  for (const tab of view.tabs.children) {
    const now = tab.dataset.tab === name;
    set(tab, "aria-selected", String(now));
    tab.tabIndex = now ? 0 : -1;
  }
  set(view.panel, "aria-labelledby", `tab-${name}`);
  if (view.shown?.name === name && view.shown.ready) {
    view.shown.ctx.search = ctx.search;
    await view.shown.module.refresh?.(view.panel, view.shown.ctx);
    return;
  }
  view.shown?.controller.abort();
  plot.purge(view.panel);
  const controller = new AbortController();
  const shown = { name, controller, ctx: { ...ctx, signal: controller.signal }, module: null, ready: false };
  view.shown = shown;
  fill(view.panel);
  shown.module = await import(`./${name}.js`);
  await shown.module.render(view.panel, shown.ctx);
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
