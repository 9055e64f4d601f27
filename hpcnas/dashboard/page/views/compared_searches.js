// Searches compared: the best fitness of groups of runs with bands, against evaluations or worker hours, and tables.

import { h } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";
import { band, settings, stairs, tableOf } from "./compared_parts.js";

const number = true;

export function searchParts(ctx) {
  const { state } = ctx;
  const axis = h(
    "select",
    { id: "compare-axis" },
    h("option", { value: "evaluations" }, "evaluations"),
    h("option", { value: "hours" }, "worker hours"),
  );
  axis.addEventListener("change", () => state.set({ axis: axis.value }, { replace: true }));
  return {
    axis: h("div", { class: "row" }, h("label", { class: "row" }, "Against", axis)),
    curves: h("div", { dataset: { plot: "curves" } }),
    groups: h("div"),
    runs: h("div"),
    settings: h("div"),
  };
}

export async function showSearches(parts, found, { state }, axis) {
  const { measure } = found;
  parts.axis.querySelector("select").value = axis;
  const fitness = (key) => (row) => format.fitness(row[key], measure);
  const half = (value) => (typeof value === "number" ? `± ${format.fitness(value, measure)}` : "–");
  groupTable(parts, found, fitness, half);
  const own = tableOf(parts.runs, "runs", () =>
    table({
      caption: "Runs",
      rowKey: (row) => row.key,
      sort: "best",
      order: "desc",
      columns: [
        {
          key: "name",
          label: "Run",
          heading: true,
          cell: (row) => h("a", { href: state.link({ view: "search", run: row.key }, { fresh: true }) }, row.name),
        },
        { key: "state", label: "State" },
        { key: "strategy", label: "Strategy" },
        { key: "seed", label: "Seed", number, cell: (row) => String(row.seed) },
        { key: "evaluated", label: "Evaluated", number, cell: (row) => format.whole(row.evaluated) },
        { key: "failed", label: "Failed", number, cell: (row) => format.whole(row.failed) },
        { key: "best", label: "Best", number, cell: fitness("best") },
        { key: "best_id", label: "Individual", number, cell: (row) => individual(state, row) },
        { key: "parameters", label: "Parameters", number, cell: (row) => format.large(row.parameters) },
        { key: "hours", label: "Worker time", number, cell: (row) => format.hours(row.hours) },
      ],
    }),
  );
  own.update({ rows: found.table });
  settings(parts.settings, found.settings);
  await plot.show(parts.curves, searchCurves(found, axis));
}

function individual(state, row) {
  return row.best_id === null
    ? "–"
    : h(
        "a",
        { href: state.link({ view: "search", run: row.key, id: row.best_id }, { fresh: true }) },
        String(row.best_id),
      );
}

function groupTable(parts, found, fitness, half) {
  const [least, goal] = [found.common_evaluations, found.common_fitness];
  const groups = tableOf(parts.groups, `groups ${least} ${goal}`, () =>
    table({
      caption: "Groups: runs whose settings are equal but for the seed",
      rowKey: (row) => row.runs.join(" "),
      columns: [
        {
          key: "name",
          label: "Group",
          heading: true,
          cell: (row) => h("span", { title: row.runs.join(", ") }, row.name),
        },
        {
          key: "count",
          label: "Runs",
          number,
          value: (row) => row.runs.length,
          cell: (row) => format.whole(row.runs.length),
        },
        { key: "evaluations", label: "Evaluations of all", number, cell: (row) => format.whole(row.evaluations) },
        { key: "best", label: "Mean best", number, cell: fitness("best") },
        { key: "best_half", label: "95 %", number, cell: (row) => half(row.best_half) },
        { key: "at_common", label: `At ${format.whole(least)}`, number, cell: fitness("at_common") },
        { key: "at_common_half", label: "95 %", number, cell: (row) => half(row.at_common_half) },
        {
          key: "evaluations_to_common",
          label: `Evaluations to ${format.fitness(goal, found.measure)}`,
          number,
          cell: (row) => format.whole(row.evaluations_to_common),
        },
        {
          key: "hours_to_common",
          label: `Hours to ${format.fitness(goal, found.measure)}`,
          number,
          cell: (row) => format.hours(row.hours_to_common),
        },
      ],
    }),
  );
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
    if (!alone(group)) traces.unshift(band(stairs(x, scaled(low)), stairs(x, scaled(high)), color, group.name));
    for (const key of group.runs) {
      const curve = found.curves.find((one) => one.key === key);
      traces.push({
        type: "scatter",
        mode: "lines",
        name: alone(group) ? group.name : key,
        showlegend: alone(group),
        legendgroup: String(place),
        x: hours ? curve.hours : curve.step,
        y: scaled(curve.best),
        opacity: alone(group) ? 1 : 0.45,
        line: { shape: "hv", color, dash, width: alone(group) ? 2.2 : 1 },
        hovertemplate: "%{y:.4~g}<extra>%{fullData.name}</extra>",
      });
    }
    if (!alone(group))
      traces.push({
        type: "scatter",
        mode: "lines+markers",
        name: group.name,
        legendgroup: String(place),
        x,
        y: scaled(mean),
        line: { shape: "hv", color, dash, width: 2.4 },
        marker: { symbol, size: 5 },
        hovertemplate: "mean %{y:.4~g}<extra>%{fullData.name}</extra>",
      });
  });
  const best = [...found.groups].sort((one, other) => other.best - one.best)[0];
  return {
    title: `Best fitness against ${hours ? found.hours_name : "evaluations"}`,
    traces,
    height: 420,
    description: best
      ? `${ahead(best, measure)} Bands are 95 % confidence of a mean as far as all its runs go; thin lines are runs.`
      : "Nothing is evaluated yet.",
    layout: {
      xaxis: {
        title: { text: hours ? found.hours_name : "evolution step (evaluations)", standoff: 8 },
        rangemode: "tozero",
      },
      yaxis: {
        title: { text: `best: ${format.measureName(measure)}` },
        range: around(found.curves, factor),
        autorange: false,
      },
      showlegend: true,
      uirevision: axis,
      legend: { orientation: "h", y: -0.16, x: 0 },
    },
    csv: {
      names: ["run", "step", "hours", "best"],
      rows: found.curves.flatMap((one) =>
        one.step.map((step, place) => [one.name, step, one.hours[place], one.best[place]]),
      ),
    },
  };
}

function ahead({ name, best, runs }, measure) {
  return `${name} is ahead with ${format.fitness(best, measure)}${runs.length > 1 ? " on average" : ""}.`;
}

// What the curves need: a band of two runs may be many times as high.
function around(curves, factor) {
  const values = curves.flatMap((one) => one.best);
  const [low, high] = values.reduce(
    ([least, most], one) => [Math.min(least, one), Math.max(most, one)],
    [Infinity, -Infinity],
  );
  if (!values.length) return [0, factor];
  const room = 0.06 * (high - low) || 0.01;
  return [factor * (low - room), factor * (high + room)];
}
