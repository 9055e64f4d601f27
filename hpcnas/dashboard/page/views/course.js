// How the search went: the three panels of the paper's Figure 3, live, and the front of fitness against costs. Dragging
// over points marks a region and lists it in the table beneath; or it zooms, and the server is asked for more points of
// what is then in sight. Each panel that shows the same quantity shows the same range of it.

import { follow, h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { filters, GROUPS } from "./filters.js";
import { individualTable } from "./individuals.js";
import { colouring, COLOURINGS, glyph } from "./colouring.js";
import { bestDot, dots, hover, looked, pointOf } from "./dots.js";

const LIMIT = 2000; // points of each panel: more of them take the browser longer than they tell
const AXES = ["step", "fitness", "parameters"];

export async function render(root, ctx) {
  const { state } = ctx;
  root.choice = filters(ctx);
  root.rows = individualTable(ctx, "Individuals");
  root.legend = h("ul", { class: "legend", id: "legend", "aria-label": "What colours and shapes mean" });
  root.sampled = h("span", { class: "muted", id: "sampled", role: "status" });
  root.colour = h(
    "select",
    { id: "colour" },
    COLOURINGS.map(([value, words]) => h("option", { value }, words)),
  );
  root.colour.addEventListener("change", () => state.set({ colour: root.colour.value }, { replace: true }));
  root.drag = h(
    "select",
    { id: "drag" },
    h("option", { value: "select" }, "chooses individuals"),
    h("option", { value: "zoom" }, "zooms"),
  );
  root.drag.addEventListener("change", () => state.set({ drag: root.drag.value }, { replace: true }));
  root.whole = h(
    "button",
    { type: "button", class: "small", id: "zoom-out", onclick: () => state.set(zoomed({})) },
    "Show everything",
  );
  root.panels = plot.places("fitness", "best", "parameters", "front");
  root.append(
    h(
      "div",
      { class: "panel stack" },
      h(
        "div",
        { class: "row" },
        h("label", { class: "row" }, "Colour by ", root.colour),
        h("label", { class: "row" }, "Dragging ", root.drag),
        root.whole,
        root.sampled,
      ),
      root.legend,
      root.choice,
    ),
    h("div", { class: "plots wide" }, Object.values(root.panels)),
    root.rows,
  );
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  const { state, api, signal, search } = ctx;
  root.choice.update(search);
  root.colour.value = state.get("colour") ?? "birth";
  root.drag.value = state.get("drag") ?? "select";
  const zoom = Object.fromEntries(AXES.map((name) => [name, state.range(`zoom_${name}`)]));
  root.whole.hidden = AXES.every((name) => zoom[name] === null);
  const query = { run: state.get("run"), limit: LIMIT, ...state.chosen(GROUPS) };
  for (const name of AXES) if (zoom[name]) query[name] = zoom[name].join(",");
  const [points] = await Promise.all([api.json("api/points", query, { signal }), root.rows.refresh(ctx)]);
  const names = ["colour", "drag", "id", "step", "fitness", "parameters"];
  const wanted = [points, search.measure.name, plot.isDark(), ...names.map((name) => state.get(name))];
  if (!root.drawn || wanted.some((one, place) => one !== root.drawn[place])) {
    root.drawn = wanted;
    write(root.sampled, sampled(points));
    const scene = await sceneOf(root, ctx, points, zoom);
    draw(root, scene).catch((error) => write(root.sampled, error.message)); // the page goes on meanwhile
  }
}

function sampled({ shown, matching, total }) {
  const some = matching === total ? "" : ` of ${format.whole(total)} in all`;
  if (shown >= matching) return `${format.whole(matching)} individuals${some}`;
  const words = `${format.whole(shown)} of ${format.whole(matching)} individuals${some}`;
  return `${words}; zoom in for more, the best are always there`;
}

// All that the panels need to know.
async function sceneOf(root, ctx, points, zoom) {
  const { state, search } = ctx;
  const { groups, legend } = colouring(points, root.colour.value);
  follow(root.legend, legend, (one) => JSON.stringify(one), glyph);
  return {
    state,
    points,
    groups,
    zoom,
    measure: search.measure,
    factor: format.isPercent(search.measure) ? 100 : 1,
    region: Object.fromEntries(AXES.map((name) => [name, state.range(name)])),
    drag: root.drag.value,
    csv: ctx.api.address("api/individuals.csv", { run: state.get("run"), ...state.chosen(GROUPS) }),
    last: points.best.last_step ?? 0,
    looked: await lookedAt(ctx, points),
  };
}

async function draw(root, scene) {
  const { fitness, best, parameters, front } = root.panels;
  await Promise.all([
    plot.show(fitness, everyFitness(scene)),
    plot.show(best, bestFitness(scene)),
    plot.show(parameters, everySize(scene)),
    plot.show(front, costs(scene)),
  ]);
}

// The individual that the panel beside shows, as a point: it need not be among those of a sample.
async function lookedAt({ state, api, signal }, points) {
  if (state.get("id") === null) return null;
  const known = pointOf(points, Number(state.get("id")));
  if (known) return known;
  try {
    const one = await api.json("api/individual", { run: state.get("run"), id: state.get("id") }, { signal });
    return { ...one, cost: points.objective === "parameters" ? one.parameters : one.objective };
  } catch (error) {
    if (error instanceof api.ServerError) return null; // the panel says what is wrong
    throw error;
  }
}

// ── the four panels ─────────────────────────────────────────────────────────────────────────────────────────────────
function everyFitness(scene) {
  const { points } = scene;
  const best = points.best.fitness.at(-1);
  return panel(scene, {
    title: "Fitness of each individual",
    x: "step",
    y: "fitness",
    description:
      best === undefined
        ? "No individual is evaluated yet."
        : `${format.whole(points.matching)} individuals; the best has ${format.fitness(best, scene.measure)}.`,
    traces: [...dots(scene, "step", "fitness"), bestDot(scene, "step", "fitness"), ...looked(scene, "step", "fitness")],
  });
}

function bestFitness(scene) {
  const { best } = scene.points;
  const steps = best.step.length ? [...best.step, scene.last] : [];
  const heights = best.fitness.map((one) => one * scene.factor);
  const ids = best.id.length ? [...best.id, best.id.at(-1)] : [];
  const line = {
    type: "scatter",
    mode: "lines+markers",
    name: "best so far",
    x: steps,
    y: [...heights, ...heights.slice(-1)],
    customdata: ids,
    line: { shape: "hv", color: plot.COLOURS[0], width: 2 },
    marker: { size: 5 },
    hovertemplate: hover("step", "fitness", scene),
  };
  return panel(scene, {
    title: "Best fitness so far",
    x: "step",
    y: "fitness",
    traces: [line],
    free: true,
    description: best.id.length
      ? `${best.id.length} improvements; the last at step ${format.whole(best.step.at(-1))}.`
      : "No improvement yet.",
    csv: {
      names: ["step", "fitness", "individual"],
      rows: best.step.map((step, n) => [step, best.fitness[n], best.id[n]]),
    },
  });
}

function everySize(scene) {
  const sizes = scene.points.points.parameters.filter((one) => one !== null);
  return panel(scene, {
    title: "Parameters",
    x: "step",
    y: "parameters",
    description: sizes.length
      ? `From ${format.large(least(sizes))} to ${format.large(most(sizes))}.`
      : "No individual is evaluated yet.",
    traces: [...dots(scene, "step", "parameters"), ...looked(scene, "step", "parameters")],
  });
}

function costs(scene) {
  const { front, objective } = scene.points;
  const line = {
    type: "scatter",
    mode: "lines+markers",
    name: "front",
    x: front.cost,
    y: front.fitness.map((one) => one * scene.factor),
    customdata: front.id,
    line: { shape: "hv", color: plot.COLOURS[1], width: 2 },
    marker: { size: 8, symbol: "diamond", line: { width: 1, color: plot.colour("--panel") } },
    hovertemplate: hover("cost", "fitness", scene),
  };
  return panel(scene, {
    title: `Fitness against ${objective}`,
    x: "cost",
    y: "fitness",
    description: `${front.id.length} individuals are on the front: nothing that costs as little is fitter.`,
    traces: [...dots(scene, "cost", "fitness"), line, ...looked(scene, "cost", "fitness")],
  });
}

function panel(scene, { title, description, x, y, traces, csv, free }) {
  const quantity = (name) => (name === "cost" && scene.points.objective === "parameters" ? "parameters" : name);
  const [qx, qy] = [quantity(x), free ? "best" : quantity(y)];
  return {
    title,
    description,
    traces,
    height: 300,
    csv: csv ?? scene.csv,
    drag: free ? "zoom" : scene.drag,
    layout: {
      xaxis: axis(scene, x, qx),
      yaxis: axis(scene, y, qy),
      showlegend: false,
      uirevision: null,
      selections: [],
      selectionrevision: String(Math.random()),
      shapes: free ? [] : marked(scene, qx, qy),
    },
    onClick: (point) => point.customdata !== undefined && scene.state.set({ id: point.customdata }),
    onZoom: (ranges) =>
      scene.state.set(
        zoomed({ [qx]: unscaled(scene, qx, ranges.x), [qy]: unscaled(scene, qy, ranges.y) }, scene.zoom, [qx, qy]),
      ),
    onBrush: free ? undefined : (range) => scene.state.set(brushed(scene, qx, qy, range)),
  };
}

function axis(scene, name, quantity) {
  const words = {
    step: "evolution step (evaluations)",
    fitness: `fitness: ${format.measureName(scene.measure)}`,
    parameters: "parameters",
    cost: scene.points.objective_words ?? scene.points.objective,
  }[name];
  const range = scene.zoom[quantity]?.map((one) => (one === null ? null : one * factorOf(scene, quantity)));
  return {
    title: { text: words, standoff: 8 },
    rangemode: name === "fitness" ? "normal" : "tozero",
    ...(range ? { range, autorange: false } : { autorange: true }),
  };
}

const factorOf = (scene, quantity) => (quantity === "fitness" ? scene.factor : 1);

function unscaled(scene, quantity, range) {
  return range?.map((one) => Number((one / factorOf(scene, quantity)).toPrecision(7))) ?? null;
}

// The changes of the address that show these ranges, and of other quantities what was shown before.
function zoomed(ranges, before = {}, names = AXES) {
  const changes = {};
  for (const name of AXES) {
    const now = names.includes(name) ? ranges[name] : before[name];
    changes[`zoom_${name}`] = now ? now.join(",") : null;
  }
  return changes;
}

function brushed(scene, qx, qy, range) {
  const changes = { step: null, fitness: null, parameters: null, offset: null };
  for (const [quantity, ends] of [
    [qx, range?.x],
    [qy, range?.y],
  ]) {
    if (!ends || !AXES.includes(quantity)) continue;
    const ordered = [...ends].sort((one, other) => one - other);
    changes[quantity] = unscaled(scene, quantity, quantity === "fitness" ? ordered : outward(ordered)).join(",");
  }
  return changes;
}

// Steps and parameters are whole numbers.
const outward = ([low, high]) => [Math.max(0, Math.ceil(low)), Math.floor(high)];

// The region as a rectangle; where it has no end, as far as there are points.
function marked(scene, qx, qy) {
  if (!scene.region[qx] && !scene.region[qy]) return [];
  const [x, y] = [bounds(scene, qx), bounds(scene, qy)];
  return [
    {
      type: "rect",
      layer: "below",
      line: { width: 1.5, dash: "dash", color: plot.colour("--accent") },
      fillcolor: plot.colour("--soft"),
      xref: x ? "x" : "paper",
      yref: y ? "y" : "paper",
      x0: x ? x[0] : 0,
      x1: x ? x[1] : 1,
      y0: y ? y[0] : 0,
      y1: y ? y[1] : 1,
    },
  ];
}

function bounds({ region, points: { points }, factor }, quantity) {
  if (!region[quantity]) return null;
  const known = points[quantity].filter((one) => one !== null);
  const [low, high] = region[quantity];
  return [low ?? least(known), high ?? most(known)].map((one) => one * (quantity === "fitness" ? factor : 1));
}

const least = (numbers) => numbers.reduce((one, other) => Math.min(one, other), Infinity);
const most = (numbers) => numbers.reduce((one, other) => Math.max(one, other), -Infinity);
