// Which operations and motifs win: how often the networks of the best individuals hold them, against those of all, in
// time and now.

import { h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";

export async function render(root, ctx) {
  const number = true;
  root.about = h("p", { class: "muted", id: "motifs-about", role: "status" });
  root.plots = plot.places("best", "all", "now");
  root.common = table({
    caption: "Motifs that the best have in common",
    rowKey: (row) => row.edges,
    sort: "best",
    order: "desc",
    columns: [
      {
        key: "edges",
        label: "Edges on a path",
        heading: true,
        class: "long",
        cell: (row) => h("span", { title: row.edges }, row.edges),
      },
      { key: "best", label: "Of the best", number, cell: (row) => format.share(row.best, 1) },
      { key: "all", label: "Of all", number, cell: (row) => format.share(row.all, 1) },
      {
        key: "gain",
        label: "Difference",
        number,
        value: (row) => row.best - row.all,
        cell: (row) => points(row.best - row.all),
      },
    ],
  });
  root.numbered = h("div");
  root.append(
    root.about,
    h("div", { class: "plots" }, root.plots.best, root.plots.all),
    root.plots.now,
    root.common,
    root.numbered,
  );
  await refresh(root, ctx);
}

export async function refresh(root, { api, state, signal }) {
  const found = await api.json("api/motifs", { run: state.get("run") }, { signal });
  if (root.drawn === found) return;
  root.drawn = found;
  write(root.about, about(found));
  root.common.update({ rows: found.common });
  numbered(root, found);
  const top = Math.max(0.05, ...found.best.flat(), ...found.all.flat());
  await Promise.all([
    plot.show(root.plots.best, course(found, found.best, "Operations among the best", top)),
    plot.show(root.plots.all, course(found, found.all, "Operations among all", top)),
    plot.show(root.plots.now, now(found)),
  ]);
}

function about(found) {
  if (!found.steps.length) return "No individual is evaluated yet.";
  const sample =
    found.every > 1
      ? ` A sample: ${format.whole(found.looked_at)} of ${format.whole(found.evaluated)}, every ${found.every}th.`
      : "";
  const best = `The best are ${format.share(found.best_share)}, 10 at the least: ${format.whole(found.best_of)} now.`;
  return `Shares of the operations in the networks evaluated by each step, edges on no path aside. ${best}${sample}`;
}

const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;

function course(found, shares, title, top) {
  const traces = found.operations.map((name, place) => {
    const { color, symbol, dash } = plot.series(place);
    return {
      type: "scatter",
      mode: "lines+markers",
      name,
      x: found.steps,
      y: shares[place]?.map((one) => 100 * one) ?? [],
      line: { color, dash, width: 2 },
      marker: { color, symbol, size: 6 },
      hovertemplate: "%{y:.1f} %<extra>%{fullData.name}</extra>",
    };
  });
  return {
    title,
    traces,
    height: 320,
    description: leading(found, shares),
    layout: {
      xaxis: { title: { text: "evolution step (evaluations)", standoff: 8 }, rangemode: "tozero" },
      yaxis: { title: { text: "share of operations (%)" }, range: [0, 108 * top], autorange: false },
      showlegend: true,
      uirevision: null,
    },
    csv: {
      names: ["step", ...found.operations],
      rows: found.steps.map((step, bin) => [step, ...shares.map((one) => one[bin])]),
    },
  };
}

function leading(found, shares) {
  if (!found.steps.length) return "No individual is evaluated yet.";
  const now = found.operations
    .map((name, place) => [name, shares[place].at(-1)])
    .sort((one, other) => other[1] - one[1]);
  return `Now ${now
    .slice(0, 3)
    .map(([name, one]) => `${name} ${format.share(one, 1)}`)
    .join(", ")}.`;
}

const told = ([name, gain]) => `${name} (${points(gain / 100)})`;

function now(found) {
  const last = (shares) => shares.map((one) => 100 * (one.at(-1) ?? 0));
  const bars = (name, values, number, pattern) => ({
    type: "bar",
    name,
    x: found.operations,
    y: values,
    marker: {
      color: plot.COLOURS[number],
      pattern: { shape: pattern, fillmode: "overlay", fgcolor: plot.colour("--panel"), size: 6, solidity: 0.3 },
    },
    hovertemplate: "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
  });
  const [best, all] = [last(found.best), last(found.all)];
  const gains = found.operations
    .map((name, place) => [name, best[place] - all[place]])
    .sort((one, other) => other[1] - one[1]);
  const words = found.steps.length
    ? `Against all, the best hold more ${told(gains[0])} and less ${told(gains.at(-1))}, in percentage points.`
    : "No individual is evaluated yet.";
  return {
    title: "Operations now",
    description: words,
    height: 260,
    traces: [bars("among the best", best, 0, ""), bars("among all", all, 4, "/")],
    layout: {
      barmode: "group",
      xaxis: { type: "category" },
      yaxis: { title: { text: "share of operations (%)" }, rangemode: "tozero" },
      legend: { orientation: "h", y: -0.2, x: 0 },
    },
    csv: {
      names: ["operation", "best", "all"],
      rows: found.operations.map((name, place) => [name, best[place] / 100, all[place] / 100]),
    },
  };
}

// The motifs by their numbers: a table whose columns are the operations of the space, made when these are known.
function numbered(root, found) {
  const number = true;
  if (!root.table && found.motifs.length) {
    root.table = table({
      caption: "Motifs by number: what they hold among the best, and how often a network uses them",
      rowKey: (row) => row.name,
      columns: [
        { key: "name", label: "Motif", heading: true },
        { key: "uses_best", label: "Uses, best", number, cell: (row) => row.uses_best.toFixed(2) },
        { key: "uses_all", label: "Uses, all", number, cell: (row) => row.uses_all.toFixed(2) },
        ...found.operations.map((name) => ({
          key: `operation ${name}`,
          label: `${name} (%)`,
          number,
          value: (row) => row.operations[name],
          cell: (row) => (100 * row.operations[name]).toFixed(1),
        })),
      ],
    });
    root.numbered.replaceChildren(root.table);
  }
  root.table?.update({ rows: found.motifs });
}
