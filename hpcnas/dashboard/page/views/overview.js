// All runs in the folders that the server was given: how each stands, and which ones to compare.

import { h, write } from "../elements.js";
import * as format from "../format.js";
import { table } from "../table.js";
import { problems } from "./top.js";

export async function render(root, ctx) {
  const { state } = ctx;
  const view = {
    sum: h("p", { class: "muted", id: "overview-sum" }),
    roots: h("p", { class: "muted", id: "overview-roots" }),
    problems: problems("overview-problems"),
    compare: h("button", { type: "button", id: "overview-compare", disabled: true }, "Compare"),
    search: h("input", { type: "search", id: "overview-search", size: "18", value: state.get("name") ?? "" }),
    kind: h(
      "select",
      { id: "overview-kind" },
      [
        ["", "searches and retrainings"],
        ["search", "searches"],
        ["retraining", "retrainings"],
        ["damaged", "damaged"],
      ].map(([value, words]) => h("option", { value }, words)),
    ),
    runs: [],
  };
  view.kind.value = state.get("kind") ?? "";
  view.table = table({
    caption: "Runs",
    captionHidden: true,
    sort: state.get("sort") ?? "began",
    order: state.get("order") ?? "desc",
    columns: columns(ctx, view),
    empty: "No run is found.",
  });
  view.compare.addEventListener("click", () => {
    location.hash = state.link({ view: "compare", run: state.all("run") }, { fresh: true });
  });
  view.search.addEventListener("input", () => state.set({ name: view.search.value }, { replace: true }));
  view.kind.addEventListener("change", () => state.set({ kind: view.kind.value }, { replace: true }));
  root.append(
    h("div", { class: "head" }, h("h1", {}, "Runs"), view.sum),
    view.roots,
    view.problems,
    h(
      "div",
      { class: "row", style: "margin: 14px 0" },
      h("label", { class: "row" }, "Name ", view.search),
      h("label", { class: "row" }, "Show ", view.kind),
      view.compare,
    ),
    view.table,
  );
  root.view = view;
  await refresh(root, ctx);
}

export async function refresh(root, { state, api, signal }) {
  const { view } = root;
  const found = await api.json("api/overview", {}, { signal });
  const wanted = state.get("name")?.toLowerCase() ?? "";
  const kind = state.get("kind");
  view.now = found.time;
  view.runs = found.runs;
  const shown = found.runs.filter(
    (run) => (!kind || run.kind === kind) && `${run.name} ${run.path}`.toLowerCase().includes(wanted),
  );
  view.table.update({ rows: shown });
  const running = found.runs.filter((run) => run.running).length;
  const total = found.runs.reduce((sum, run) => sum + (run.hours ?? 0), 0);
  write(view.sum, `${found.runs.length} runs, ${running} running, ${format.hours(total)} of workers`);
  write(view.roots, found.roots.join(" · "));
  view.problems.update(found.problems);
  const chosen = state.all("run").filter((key) => found.runs.some((run) => run.key === key));
  for (const box of root.querySelectorAll("input[data-run]")) box.checked = chosen.includes(box.dataset.run);
  write(view.compare, chosen.length > 1 ? `Compare ${chosen.length} runs` : "Compare (choose two or more)");
  view.compare.disabled = chosen.length < 2;
}

function columns({ state }, view) {
  const number = true;
  return [
    {
      key: "chosen",
      label: h("span", { class: "unseen" }, "Chosen"),
      sortable: false,
      cell: (run) => choice(run, state),
    },
    { key: "name", label: "Run", heading: true, cell: (run) => name(run, state) },
    { key: "state", label: "State", cell: badge },
    { key: "done", label: "Done", number, value: (run) => run.done / Math.max(1, run.total), cell: progress },
    { key: "best", label: "Best", number, cell: (run) => best(run, state) },
    { key: "remaining", label: "Ends in", number, cell: (run) => (run.running ? format.duration(run.remaining) : "–") },
    { key: "rate", label: "Pace", number, cell: (run) => (run.running ? format.pace(run.rate) : "–") },
    { key: "hours", label: "Worker hours", number, cell: (run) => format.hours(run.hours) },
    { key: "failed", label: "Failed", number, cell: (run) => format.whole(run.failed) },
    { key: "began", label: "Began", number, cell: (run) => format.clock(run.began) },
    { key: "modified", label: "Changed", number, cell: (run) => format.ago(run.modified, view.now) },
  ];
}

function choice(run, state) {
  if (run.kind === "damaged") return "";
  const box = h("input", { type: "checkbox", "aria-label": `Compare ${run.name}`, dataset: { run: run.key } });
  box.addEventListener("change", () => {
    const others = state.all("run").filter((key) => key !== run.key);
    state.set({ run: box.checked ? [...others, run.key] : others }, { replace: true });
  });
  return box;
}

function name(run, state) {
  if (run.kind === "damaged") {
    return h(
      "span",
      { class: "damaged" },
      h("strong", {}, run.name),
      h("span", { class: "bad" }, ` ${run.problems.join(" ")}`),
    );
  }
  const href = state.link({ view: run.kind, run: run.key }, { fresh: true });
  const kind = run.kind === "retraining" ? h("span", { class: "muted" }, " retraining") : null;
  return h("span", { title: run.path }, h("a", { href, dataset: { open: run.key } }, run.name), kind);
}

function badge(run) {
  return h(
    "span",
    { class: "badge", dataset: { state: format.condition(run) }, title: run.problems.join(" ") || null },
    run.state,
    run.problems.length > 0 && run.kind !== "damaged" ? " (!)" : "",
  );
}

function progress(run) {
  if (!run.total) return "–";
  const words = `${format.whole(run.done)} of ${format.whole(run.total)}`;
  return h(
    "span",
    { class: "row", style: "justify-content: flex-end; flex-wrap: nowrap" },
    words,
    h("progress", { max: run.total, value: run.done, "aria-label": `Progress of ${run.name}`, style: "width: 72px" }),
  );
}

function best(run, state) {
  if (typeof run.best !== "number") return "–";
  const words = format.fitness(run.best, run.measure);
  if (run.kind !== "search" || run.best_id === null) return words;
  return h("a", { href: state.link({ view: "search", run: run.key, id: run.best_id }, { fresh: true }) }, words);
}
