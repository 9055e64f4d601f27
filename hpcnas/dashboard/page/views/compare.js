// Runs compared: curves with bands, what their settings differ in, and tables. Searches, or retrainings.

import { fill, follow, h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";

const number = true;
let toFocus = null; // a choice of runs draws the view anew: what was chosen keeps the focus

export async function render(root, ctx) {
  root.drawn = root.kind = root.asked = null;
  root.choice = chooser(ctx);
  root.problems = h("ul", { class: "problems", id: "compare-problems", hidden: true });
  root.body = h("div", { class: "stack", id: "compare-body" });
  root.append(h("h1", {}, "Compare"), h("div", { class: "stack" }, root.choice, root.problems, root.body));
  await refresh(root, ctx);
  if (toFocus) document.getElementById(toFocus)?.focus({ preventScroll: true });
  toFocus = null;
}

export async function refresh(root, ctx) {
  const { api, state, signal } = ctx;
  const overview = await api.json("api/overview", {}, { signal });
  root.choice.update(overview.runs);
  const keys = state.all("run");
  if (!keys.length) {
    if (!root.asked) fill(root.body, h("p", { class: "muted" }, "Choose the runs to compare: searches, or retrainings."));
    root.asked = true;
    return;
  }
  const found = await api.json("api/compare", { run: keys }, { signal });
  const axis = state.get("axis") === "hours" ? "hours" : "evaluations";
  if (root.drawn?.[0] === found && root.drawn[1] === axis) return;
  root.drawn = [found, axis];
  root.problems.hidden = found.problems.length === 0;
  follow(root.problems, found.problems, (text) => text, (text) => h("li", {}, text));
  if (root.kind !== found.kind) {
    root.kind = found.kind;
    root.parts = found.kind === "searches" ? searchParts(ctx) : retrainingParts();
    fill(root.body, h("h2", { class: "unseen" }, found.kind === "searches" ? "Searches" : "Retrainings"), Object.values(root.parts));
  }
  await (found.kind === "searches" ? showSearches : showRetrainings)(root.parts, found, ctx, axis);
}

// ── which runs ──────────────────────────────────────────────────────────────────────────────────────────────────────
function chooser({ state }) {
  const list = h("div", { class: "options" });
  const details = h("details", { class: "panel filters", id: "compare-choice", open: state.all("run").length < 2 },
    h("summary", {}, "Runs"), h("fieldset", {}, h("legend", {}, "Searches, or retrainings: their accuracies are not of one kind"), list));
  details.update = (runs) => {
    const chosen = new Set(state.all("run"));
    write(details.firstChild, `Runs: ${format.whole(chosen.size)} of ${format.whole(runs.length)}`);
    follow(list, runs.filter((run) => run.kind !== "damaged"), (run) => run.key, (run) => {
      const box = h("input", { type: "checkbox", id: `compare ${run.key}` });
      box.addEventListener("change", () => {
        toFocus = box.id;
        const now = new Set(state.all("run"));
        if (box.checked) now.add(run.key);
        else now.delete(run.key);
        state.set({ run: [...now] });
      });
      return h("label", {}, box, h("span"));
    }, (label, run) => {
      label.firstChild.checked = chosen.has(run.key);
      write(label.lastChild, `${run.name}${run.kind === "retraining" ? " (retraining)" : ""}`);
    });
  };
  return details;
}

// ── searches ────────────────────────────────────────────────────────────────────────────────────────────────────────
function searchParts(ctx) {
  const { state } = ctx;
  const axis = h("select", { id: "compare-axis" },
    h("option", { value: "evaluations" }, "evaluations"), h("option", { value: "hours" }, "worker hours"));
  axis.addEventListener("change", () => state.set({ axis: axis.value }, { replace: true }));
  return {
    axis: h("div", { class: "row" }, h("label", { class: "row" }, "Against", axis)),
    curves: h("div", { dataset: { plot: "curves" } }),
    groups: h("div"), runs: h("div"), settings: h("div"),
  };
}

async function showSearches(parts, found, { state }, axis) {
  const { measure } = found;
  parts.axis.querySelector("select").value = axis;
  const fitness = (key) => (row) => format.fitness(row[key], measure);
  const half = (value) => (typeof value === "number" ? `± ${format.fitness(value, measure)}` : "–");
  groupTable(parts, found, fitness, half);
  const own = table0(parts.runs, "runs", () => table({
    caption: "Runs", rowKey: (row) => row.key, sort: "best", order: "desc",
    columns: [
      { key: "name", label: "Run", heading: true, cell: (row) => h("a", { href: state.link({ view: "search", run: row.key }, { fresh: true }) }, row.name) },
      { key: "state", label: "State" }, { key: "strategy", label: "Strategy" },
      { key: "seed", label: "Seed", number, cell: (row) => String(row.seed) },
      { key: "evaluated", label: "Evaluated", number, cell: (row) => format.whole(row.evaluated) },
      { key: "failed", label: "Failed", number, cell: (row) => format.whole(row.failed) },
      { key: "best", label: "Best", number, cell: fitness("best") },
      { key: "best_id", label: "Individual", number, cell: (row) => individual(state, row) },
      { key: "parameters", label: "Parameters", number, cell: (row) => format.large(row.parameters) },
      { key: "hours", label: "Worker time", number, cell: (row) => format.hours(row.hours) },
    ],
  }));
  own.update({ rows: found.table });
  settings(parts.settings, found.settings);
  await plot.show(parts.curves, searchCurves(found, axis));
}

function individual(state, row) {
  return row.best_id === null ? "–"
    : h("a", { href: state.link({ view: "search", run: row.key, id: row.best_id }, { fresh: true }) }, String(row.best_id));
}

function groupTable(parts, found, fitness, half) {
  const [least, goal] = [found.common_evaluations, found.common_fitness];
  const groups = table0(parts.groups, `groups ${least} ${goal}`, () => table({
    caption: "Groups: runs whose settings are equal but for the seed", rowKey: (row) => row.runs.join(" "),
    columns: [
      { key: "name", label: "Group", heading: true, cell: (row) => h("span", { title: row.runs.join(", ") }, row.name) },
      { key: "count", label: "Runs", number, value: (row) => row.runs.length, cell: (row) => format.whole(row.runs.length) },
      { key: "evaluations", label: "Evaluations of all", number, cell: (row) => format.whole(row.evaluations) },
      { key: "best", label: "Mean best", number, cell: fitness("best") },
      { key: "best_half", label: "95 %", number, cell: (row) => half(row.best_half) },
      { key: "at_common", label: `At ${format.whole(least)}`, number, cell: fitness("at_common") },
      { key: "at_common_half", label: "95 %", number, cell: (row) => half(row.at_common_half) },
      { key: "evaluations_to_common", label: `Evaluations to ${format.fitness(goal, found.measure)}`, number,
        cell: (row) => format.whole(row.evaluations_to_common) },
      { key: "hours_to_common", label: `Hours to ${format.fitness(goal, found.measure)}`, number, cell: (row) => format.hours(row.hours_to_common) },
    ],
  }));
  groups.update({ rows: found.groups });
}

function searchCurves(found, axis) {
  const { measure } = found;
  const factor = format.isPercent(measure) ? 100 : 1;
  const hours = axis === "hours";
  const traces = [];
  const alone = (group) => group.runs.length === 1;
  found.groups.forEach((group, place) => {
    const { color, dash, symbol } = plot.series(place);
    const { x, mean, low, high } = hours ? group.by_hours : group.by_evaluations;
    const scaled = (values) => values.map((one) => factor * one);
    if (!alone(group)) traces.push(band(stairs(x, scaled(low)), stairs(x, scaled(high)), color, group.name));
    for (const key of group.runs) {
      const curve = found.curves.find((one) => one.key === key);
      traces.push({
        type: "scatter", mode: "lines", name: alone(group) ? group.name : key, showlegend: alone(group), legendgroup: String(place),
        x: hours ? curve.hours : curve.step, y: scaled(curve.best), opacity: alone(group) ? 1 : 0.45,
        line: { shape: "hv", color, dash, width: alone(group) ? 2.2 : 1 }, hovertemplate: "%{y:.4~g}<extra>%{fullData.name}</extra>",
      });
    }
    if (!alone(group)) traces.push({
      type: "scatter", mode: "lines+markers", name: group.name, legendgroup: String(place), x, y: scaled(mean),
      line: { shape: "hv", color, dash, width: 2.4 }, marker: { symbol, size: 5 }, hovertemplate: "mean %{y:.4~g}<extra>%{fullData.name}</extra>",
    });
  });
  const best = [...found.groups].sort((one, other) => other.best - one.best)[0];
  return {
    title: `Best fitness against ${hours ? found.hours_name : "evaluations"}`, traces, height: 420,
    description: best ? `${best.name} is ahead with ${format.fitness(best.best, measure)}${best.runs.length > 1 ? " on average" : ""}. Bands are 95 % confidence of a mean, as far as all its runs have come; thin lines are single runs.`
      : "Nothing is evaluated yet.",
    layout: {
      xaxis: { title: { text: hours ? found.hours_name : "evolution step (evaluations)", standoff: 8 }, rangemode: "tozero" },
      yaxis: { title: { text: `best: ${format.measureName(measure)}` }, range: around(found.curves, factor), autorange: false },
      showlegend: true, uirevision: axis, legend: { orientation: "h", y: -0.16, x: 0 },
    },
    csv: { names: ["run", "step", "hours", "best"],
      rows: found.curves.flatMap((one) => one.step.map((step, place) => [one.name, step, one.hours[place], one.best[place]])) },
  };
}

// What the curves need: a band of two runs may be many times as high.
function around(curves, factor) {
  const values = curves.flatMap((one) => one.best);
  const [low, high] = values.reduce(([least, most], one) => [Math.min(least, one), Math.max(most, one)], [Infinity, -Infinity]);
  if (!values.length) return [0, factor];
  const room = 0.06 * (high - low) || 0.01;
  return [factor * (low - room), factor * (high + room)];
}

// The corners of a function that is constant from each x to the next.
function stairs(x, y) {
  const found = { x: [], y: [] };
  x.forEach((at, place) => {
    if (place) {
      found.x.push(at);
      found.y.push(y[place - 1]);
    }
    found.x.push(at);
    found.y.push(y[place]);
  });
  return found;
}

function band(low, high, color, name) {
  return {
    type: "scatter", mode: "lines", name: `${name}: 95 %`, showlegend: false, hoverinfo: "skip", line: { width: 0 },
    x: [...high.x, ...[...low.x].reverse()], y: [...high.y, ...[...low.y].reverse()], fill: "toself",
    fillcolor: faint(color),
  };
}

// A colour such as #0072b2, nearly transparent.
function faint(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},0.18)`;
}

// ── retrainings ─────────────────────────────────────────────────────────────────────────────────────────────────────
function retrainingParts() {
  return { curves: h("div", { dataset: { plot: "curves" } }), groups: h("div"), settings: h("div") };
}

async function showRetrainings(parts, found) {
  const percent = (key) => (row) => format.share(row[key], 2);
  const half = (key) => (row) => (typeof row[key] === "number" ? `± ${(100 * row[key]).toFixed(2)}` : "–");
  const step = found.validation_step;
  const groups = table0(parts.groups, `retrained ${step}`, () => table({
    caption: "Groups: retrainings of one genotype and recipe, of different seeds", rowKey: (row) => row.runs.join(" "),
    columns: [
      { key: "name", label: "Group", heading: true },
      { key: "complete", label: "Complete", number, cell: (row) => `${row.complete} of ${row.trainings}${row.diverged ? `, ${row.diverged} diverged` : ""}` },
      { key: "parameters", label: "Parameters", number, cell: (row) => format.large(row.parameters) },
      { key: "flops", label: "FLOPs", number, cell: (row) => format.large(row.flops) },
      { key: "test_accuracy", label: "Test accuracy", number, cell: percent("test_accuracy") },
      { key: "test_accuracy_half", label: "95 %", number, cell: half("test_accuracy_half") },
      { key: "difference", label: "From the first", number, cell: (row) => (typeof row.difference === "number" ? points(row.difference) : "–") },
      { key: "difference_half", label: "95 %", number, cell: half("difference_half") },
      { key: "test_top5", label: "Top 5", number, cell: percent("test_top5") },
      { key: "validation_accuracy", label: step === null ? "Validation" : `Validation at ${format.whole(step)}`, number, cell: percent("validation_accuracy") },
      { key: "training_seconds", label: "Time", number, cell: (row) => format.duration(row.training_seconds) },
    ],
  }));
  groups.update({ rows: found.groups });
  settings(parts.settings, found.settings);
  await plot.show(parts.curves, retrainingCurves(found));
}

const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(2)}`;

function retrainingCurves(found) {
  const traces = [];
  const validated = found.curves.some((one) => one.validation_step.length);
  found.groups.forEach((group, place) => {
    const { color, dash, symbol } = plot.series(place);
    const scaled = (values) => values.map((one) => 100 * one);
    const { step, mean, low, high, trainings } = group.validated;
    const several = trainings > 1 && step.length > 0;
    if (several) traces.push(band({ x: step, y: scaled(low) }, { x: step, y: scaled(high) }, color, group.name));
    const own = found.curves.filter((one) => group.runs.includes(one.key));
    own.forEach((one, which) => {
      traces.push({
        type: "scatter", mode: "lines", name: several ? `${one.name}, seed ${one.seed}` : group.name, showlegend: !several && which === 0,
        legendgroup: String(place), x: validated ? one.validation_step : one.step, y: scaled(validated ? one.validation_accuracy : one.accuracy),
        opacity: several ? 0.45 : 1, line: { color, dash, width: several ? 1 : 2 }, hovertemplate: `%{y:.2f} % (seed ${Number(one.seed)})<extra></extra>`,
      });
    });
    if (several) traces.push({
      type: "scatter", mode: "lines+markers", name: group.name, legendgroup: String(place), x: step, y: scaled(mean),
      line: { color, dash, width: 2.4 }, marker: { symbol, size: 6 }, hovertemplate: "mean %{y:.2f} %<extra></extra>",
    });
  });
  return {
    title: validated ? "Validation accuracy" : "Accuracy on training images", traces, height: 420,
    description: "Thin lines are single trainings; bands are 95 % confidence of their mean, at steps after which all of a group were validated.",
    layout: { xaxis: { title: { text: "step", standoff: 8 }, rangemode: "tozero" }, yaxis: { title: { text: "accuracy (%)" } }, showlegend: true },
    csv: { names: ["retraining", "seed", "step", "validation_accuracy"],
      rows: found.curves.flatMap((one) => one.validation_step.map((step, place) => [one.name, one.seed, step, one.validation_accuracy[place]])) },
  };
}

// ── tables that depend on what was found ────────────────────────────────────────────────────────────────────────────
// The table in a container, made anew where `sort` of its columns is another one.
function table0(container, kind, make) {
  if (container.kind !== kind) {
    container.kind = kind;
    container.replaceChildren(make());
  }
  return container.firstChild;
}

function settings(container, { columns, rows }) {
  const own = table0(container, `settings ${JSON.stringify(columns)}`, () => table({
    caption: "Settings that differ", rowKey: (row) => row.name, empty: "No setting differs.",
    columns: [
      { key: "name", label: "Setting", heading: true },
      ...columns.map((name, place) => ({
        key: `value ${place}`, label: name, value: (row) => row.values[place],
        cell: (row) => h("span", { title: row.values[place] }, row.values[place]),
      })),
    ],
  }));
  own.update({ rows });
}
