// What the model of guided evolution predicted of the individuals that it chose, and what was then measured of them.

import { h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";

const SOON = 500; // milliseconds until more is asked for, while there is more to compute

export async function render(root, ctx) {
  root.about = h("p", { class: "muted", id: "predictions-about", role: "status" });
  root.progress = h("progress", {
    id: "predictions-progress",
    max: 1,
    value: 0,
    "aria-label": "Predictions that are computed",
    hidden: true,
  });
  root.plots = plot.places("against", "apart", "windows");
  root.pictures = h("div", { class: "plots" }, Object.values(root.plots));
  root.rows = surprises(ctx);
  root.append(h("div", { class: "row" }, root.about, root.progress), root.pictures, root.rows);
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  const { api, state, signal, search } = ctx;
  const found = await api.json("api/predictions", { run: state.get("run") }, { signal });
  if (root.drawn === found) return;
  root.drawn = found;
  write(root.about, about(found));
  root.progress.hidden = !found.computing;
  root.progress.max = Math.max(1, found.of);
  root.progress.value = found.computed;
  clearTimeout(root.soon);
  if (found.computing) root.soon = setTimeout(() => more(root, ctx), SOON);
  root.pictures.hidden = root.rows.hidden = !found.available || found.individual.length === 0;
  if (root.pictures.hidden) return;
  const scene = { found, state, measure: search.measure, factor: format.isPercent(search.measure) ? 100 : 1 };
  const apart = found.measured.map((value, place) => value - found.predicted[place]);
  const order = apart
    .map((_, place) => place)
    .sort((one, other) => Math.abs(apart[other]) - Math.abs(apart[one]))
    .slice(0, 50);
  root.rows.update({
    rows: order.map((place) => ({
      id: found.individual[place],
      step: found.step[place],
      predicted: found.predicted[place],
      measured: found.measured[place],
      apart: apart[place],
    })),
  });
  await Promise.all([
    plot.show(root.plots.against, against(scene)),
    plot.show(root.plots.apart, distances(scene, apart)),
    plot.show(root.plots.windows, windows(scene)),
  ]);
}

// Asks for more, where somebody still looks and nobody has asked since. A failure is the next look's.
function more(root, ctx) {
  if (!ctx.signal.aborted && !document.hidden && !document.body.classList.contains("paused"))
    refresh(root, ctx).catch(() => {});
}

function about(found) {
  if (!found.available) return `There is nothing to compare: ${found.why}.`;
  const of = found.every > 1 ? ` A sample: every ${format.whole(found.every)}th individual.` : "";
  if (found.computing) {
    const so = `${format.whole(found.computed)} of ${format.whole(found.of)} individuals so far, the earliest first`;
    return `Models are learned anew: ${so}.${of}`;
  }
  const rank = found.rank_correlation === null ? "" : ` Rank correlation ${found.rank_correlation.toFixed(2)}.`;
  const count = format.whole(found.individual.length);
  return `${count} individuals that the model has chosen, each by the model of its own birth.${rank}${of}`;
}

const click = (state) => (point) => point.customdata !== undefined && state.set({ id: point.customdata });

function dots(scene, x, y, name) {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x,
    y,
    customdata: scene.found.individual,
    marker: { color: plot.COLOURS[0], size: 6, opacity: 0.65 },
  };
}

function against(scene) {
  const { found, factor, measure } = scene;
  const [x, y] = [found.predicted, found.measured].map((values) => values.map((one) => factor * one));
  const ends = [...x, ...y].reduce(
    ([low, high], one) => [Math.min(low, one), Math.max(high, one)],
    [Infinity, -Infinity],
  );
  const better = y.filter((one, place) => one > x[place]).length;
  return {
    title: "Predicted and measured fitness",
    height: 320,
    onClick: click(scene.state),
    description: `${format.share(better / Math.max(1, y.length))} were better than predicted: they lie above the line.`,
    traces: [
      {
        ...dots(scene, x, y, "individuals"),
        hovertemplate: "individual %{customdata}<br>predicted %{x:.4~g}, measured %{y:.4~g}<extra></extra>",
      },
      {
        type: "scatter",
        mode: "lines",
        name: "as predicted",
        x: ends,
        y: ends,
        line: { dash: "dash", width: 1.5, color: plot.COLOURS[1] },
        hoverinfo: "skip",
      },
    ],
    layout: {
      xaxis: { title: { text: `predicted: ${format.measureName(measure)}`, standoff: 8 } },
      yaxis: { title: { text: "measured" } },
    },
    csv: {
      names: ["individual", "step", "predicted", "measured"],
      rows: found.individual.map((id, place) => [id, found.step[place], found.predicted[place], found.measured[place]]),
    },
  };
}

function distances(scene, apart) {
  const { found, factor } = scene;
  const y = apart.map((one) => factor * one);
  const mean = apart.reduce((sum, one) => sum + one, 0) / Math.max(1, apart.length);
  const size = apart.reduce((sum, one) => sum + Math.abs(one), 0) / Math.max(1, apart.length);
  return {
    title: "Measured less predicted",
    height: 320,
    onClick: click(scene.state),
    description: `Mean ${format.gain(mean, scene.measure)}; mean size ${format.fitness(size, scene.measure)}.`,
    traces: [
      {
        ...dots(scene, found.step, y, "individuals"),
        hovertemplate: "individual %{customdata}<br>step %{x}: %{y:+.3~g}<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: { text: "evolution step (evaluations)", standoff: 8 }, rangemode: "tozero" },
      yaxis: {
        title: { text: factor === 100 ? "difference (percentage points)" : "difference" },
        zerolinewidth: 2,
        zerolinecolor: plot.colour("--edge"),
      },
    },
    csv: {
      names: ["individual", "step", "difference"],
      rows: found.individual.map((id, place) => [id, found.step[place], apart[place]]),
    },
  };
}

function windows(scene) {
  const known = scene.found.windows.filter((one) => one.rank_correlation !== null);
  const middle = known.map((one) => (one.first_step + one.last_step) / 2);
  const band = [...known.map((one) => one.chance), ...known.map((one) => -one.chance).reverse()];
  const last = known.at(-1);
  return {
    title: "Rank correlation along the run",
    height: 320,
    description: last
      ? `Last ${last.rank_correlation.toFixed(2)}. Where predictions mean nothing, 95 of 100 lie within the band.`
      : "Too few individuals for a rank correlation.",
    traces: [
      {
        type: "scatter",
        mode: "lines",
        name: "chance",
        x: [...middle, ...[...middle].reverse()],
        y: band,
        fill: "toself",
        fillcolor: "rgba(127,127,127,0.22)",
        line: { width: 0 },
        hoverinfo: "skip",
      },
      {
        type: "scatter",
        mode: "lines+markers",
        name: "rank correlation",
        x: middle,
        y: known.map((one) => one.rank_correlation),
        line: { color: plot.COLOURS[0], width: 2 },
        marker: { size: 7, symbol: "diamond" },
        hovertemplate: "step %{x:.0f}: %{y:.2f}<extra></extra>",
      },
    ],
    layout: {
      xaxis: { title: { text: "evolution step (evaluations)", standoff: 8 }, rangemode: "tozero" },
      yaxis: { title: { text: "rank correlation" }, range: [-1.05, 1.05], autorange: false },
    },
    csv: {
      names: ["first_step", "last_step", "individuals", "rank_correlation", "chance"],
      rows: scene.found.windows.map((one) => [
        one.first_step,
        one.last_step,
        one.individuals,
        one.rank_correlation,
        one.chance,
      ]),
    },
  };
}

function surprises(ctx) {
  const number = true;
  const fitness = (key) => (row) => format.fitness(row[key], ctx.search.measure);
  return table({
    caption: "Where the model was farthest off (50 individuals)",
    sort: "apart",
    order: "desc",
    rowMark: (row) => String(row.id) === ctx.state.get("id"),
    columns: [
      {
        key: "id",
        label: "Individual",
        number,
        heading: true,
        cell: (row) => h("a", { href: ctx.state.link({ id: row.id }) }, String(row.id)),
      },
      { key: "step", label: "Step", number, cell: (row) => format.whole(row.step) },
      { key: "predicted", label: "Predicted", number, cell: fitness("predicted") },
      { key: "measured", label: "Measured", number, cell: fitness("measured") },
      {
        key: "apart",
        label: "Difference",
        number,
        value: (row) => Math.abs(row.apart),
        cell: (row) => format.gain(row.apart, ctx.search.measure),
      },
    ],
  });
}
