// A retraining: where it stands, its seeds side by side, their curves, and what they say of the test images.

import { fill, h, set, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";
import { logBox } from "./log.js";
import { distinctNames } from "./names.js";
import { problems, tiles } from "./top.js";

const number = true;
const CURVES = [
  ["loss", "Loss", "mean cross-entropy", (one) => one],
  ["accuracy", "Accuracy", "accuracy (%)", (one) => 100 * one],
  ["learning_rate", "Learning rate", "learning rate", (one) => one],
  ["images_per_second", "Images a second", "images a second", (one) => one],
  ["input_wait", "Input wait", "waiting for images (%)", (one) => 100 * one],
];
const BLUES = [
  ["#f7fbff", "#08306b"],
  ["#1c232c", "#9ecbf5"],
]; // none and all, in light and in dark

export async function render(root, ctx) {
  const { state } = ctx;
  root.heading = h("h1", { id: "retraining-title" });
  root.path = h("p", { class: "muted" });
  root.problems = problems("retraining-problems");
  root.tiles = tiles("retraining-tiles");
  root.seeds = seedTable();
  root.plots = plot.places(...CURVES.map(([name]) => name), "confusion");
  root.seed = h("select", { id: "confusion-seed" });
  root.seed.addEventListener("change", () => state.set({ seed: root.seed.value || null }, { replace: true }));
  root.pairs = pairTable();
  root.classes = classTable();
  root.images = h(
    "section",
    { "aria-labelledby": "images-title" },
    h(
      "div",
      { class: "head" },
      h("h2", { id: "images-title" }, "Test images"),
      h("label", { class: "row" }, "Trainings", root.seed),
    ),
    h("div", { class: "stack" }, root.plots.confusion, h("div", { class: "plots" }, root.pairs, root.classes)),
  );
  root.untold = h("p", { class: "muted", id: "retraining-untold" });
  root.log = h("details", { id: "retraining-log" }, h("summary", {}, "Log"), logBox(ctx));
  root.log.addEventListener("toggle", () => root.log.open && root.log.lastChild.look());
  root.append(
    root.heading,
    root.path,
    root.problems,
    root.tiles,
    h(
      "div",
      { class: "stack" },
      root.seeds,
      h("h2", {}, "Curves"),
      h(
        "div",
        { class: "plots" },
        CURVES.map(([name]) => root.plots[name]),
      ),
      root.untold,
      root.images,
      root.log,
    ),
  );
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  const { api, state, signal } = ctx;
  if (root.log.open) await root.log.lastChild.refresh(ctx);
  const found = await api.json("api/retraining", { run: state.get("run"), seed: state.get("seed") }, { signal });
  if (root.drawn === found) return;
  root.drawn = found;
  write(root.heading, found.name);
  write(root.path, found.path);
  root.problems.update([...found.problems, ...found.broken_images.map((line) => `image not read: ${line}`)]);
  root.tiles.update(numbers(found));
  root.seeds.update({ rows: found.facts.trainings });
  tested(root, found);
  await Promise.all(CURVES.map((curve) => plot.show(root.plots[curve[0]], curvePlot(found, ...curve))));
  if (found.confusion) await plot.show(root.plots.confusion, matrixPlot(found.confusion));
}

function numbers(found) {
  const accuracies = found.facts.trainings.map((one) => one.test_accuracy).filter((one) => typeof one === "number");
  const mean = accuracies.reduce((sum, one) => sum + one, 0) / accuracies.length;
  const { settings } = found.facts;
  return [
    [
      "test accuracy",
      accuracies.length ? format.share(mean, 2) : "–",
      accuracies.length ? `mean of ${accuracies.length} complete` : "no training is complete yet",
    ],
    [
      "trainings",
      `${found.complete} of ${found.facts.trainings.length}`,
      found.diverged ? `${found.diverged} diverged` : "complete",
    ],
    ["steps", format.whole(found.steps_done), `of ${format.whole(found.steps)}`],
    ["pace", found.images_per_second === null ? "–" : format.short(found.images_per_second), "images a second"],
    ["input wait", format.share(found.input_wait, 1), "of the time"],
    [
      "ends",
      typeof found.remaining === "number" ? format.clock(found.time + found.remaining) : "–",
      typeof found.remaining === "number" ? `in ${format.duration(found.remaining)}` : found.state,
    ],
    [
      "parameters",
      format.large(found.facts.parameters),
      `${settings.channels} channels, cells ${settings.cells.join("+")}`,
    ],
    ["saved", format.clock(found.time), `${found.ranks} ranks, rank 0 on ${found.host || "–"}`],
  ];
}

function seedTable() {
  const percent = (key) => (row) => format.share(row[key], 2);
  const plain = (key, digits) => (row) => (typeof row[key] === "number" ? row[key].toFixed(digits) : "–");
  return table({
    caption: "Seeds side by side",
    rowKey: (row) => row.seed,
    sort: "seed",
    order: "asc",
    empty: "No training is planned yet.",
    columns: [
      { key: "seed", label: "Seed", number, heading: true, cell: (row) => String(row.seed) },
      { key: "state", label: "State", cell: (row) => format.word(row.state) },
      { key: "step", label: "Step", number, cell: (row) => format.whole(row.step) },
      { key: "training_seconds", label: "Trained", number, cell: (row) => format.duration(row.training_seconds) },
      { key: "loss", label: "Loss", number, cell: plain("loss", 4) },
      {
        key: "accuracy",
        label: "Training",
        number,
        cell: percent("accuracy"),
        title: "accuracy on augmented training images",
      },
      { key: "validation_accuracy", label: "Validation", number, cell: percent("validation_accuracy") },
      { key: "test_accuracy", label: "Test", number, cell: percent("test_accuracy") },
      { key: "test_balanced_accuracy", label: "Balanced", number, cell: percent("test_balanced_accuracy") },
      { key: "test_macro_f1", label: "Macro F1", number, cell: plain("test_macro_f1", 4) },
      { key: "test_auroc", label: "AUROC", number, cell: plain("test_auroc", 4) },
      { key: "test_log_loss", label: "Log loss", number, cell: plain("test_log_loss", 4) },
      { key: "images_per_second", label: "Images/s", number, cell: (row) => format.short(row.images_per_second) },
      { key: "input_wait", label: "Input wait", number, cell: (row) => format.share(row.input_wait, 1) },
    ],
  });
}

// ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────
function curvePlot(found, name, title, words, scaled) {
  const both = name === "accuracy" || name === "loss";
  const traces = found.curves.flatMap(({ seed, history, validations }, place) => {
    const { color, symbol } = plot.series(place);
    const own = {
      type: "scatter",
      mode: "lines",
      name: both ? `seed ${seed}, training` : `seed ${seed}`,
      x: history.step,
      y: values(history[name], scaled),
      line: { color, width: 1.6, dash: "solid" },
      hovertemplate: "step %{x}: %{y:.4~g}<extra>%{fullData.name}</extra>",
    };
    if (!both || !validations.step.length) return [own];
    return [
      own,
      {
        type: "scatter",
        mode: "lines+markers",
        name: `seed ${seed}, validation`,
        x: validations.step,
        y: values(validations[name], scaled),
        line: { color, width: 1.6, dash: "dot" },
        marker: { symbol, size: 7 },
        hovertemplate: own.hovertemplate,
      },
    ];
  });
  return {
    title,
    traces,
    height: 300,
    description: described(found, name, title),
    layout: {
      xaxis: { title: { text: "step", standoff: 8 }, rangemode: "tozero" },
      yaxis: { title: { text: words }, rangemode: name === "loss" ? "normal" : "tozero" },
      showlegend: true,
      legend: { orientation: "h", y: -0.28, x: 0 },
    },
    csv: {
      names: ["seed", "step", name],
      rows: found.curves.flatMap(({ seed, history }) =>
        history.step.map((step, place) => [seed, step, history[name][place]]),
      ),
    },
  };
}

const values = (column, scaled) => (column ?? []).map((one) => (one === null ? null : scaled(one)));

function described(found, name, title) {
  const told = found.curves
    .map(({ seed, history }) => {
      const last = history[name].at(-1);
      if (last === undefined || last === null) return null;
      const inPercent = name === "accuracy" || name === "input_wait";
      return `seed ${seed} ${inPercent ? format.share(last, 1) : format.short(last, 4)}`;
    })
    .filter(Boolean);
  if (!told.length) return "No row of a history is saved yet.";
  const more = told.length > 6 ? ` and ${told.length - 6} more` : "";
  return `${title} lately: ${told.slice(0, 6).join(", ")}${more}.`;
}

// ── test images ─────────────────────────────────────────────────────────────────────────────────────────────────────
function tested(root, found) {
  const { confusion } = found;
  root.images.hidden = confusion === null;
  write(
    root.untold,
    found.untold ?? (confusion === null ? "Which classes are confused is known when a training is complete." : ""),
  );
  root.untold.hidden = root.untold.textContent === "";
  if (confusion === null) return;
  const choices = ["", ...found.seeds.map(String)].join(",");
  if (root.seed.dataset.choices !== choices) {
    root.seed.dataset.choices = choices;
    fill(
      root.seed,
      h("option", { value: "" }, found.seeds.length > 1 ? `all ${found.seeds.length} seeds together` : "all"),
      found.seeds.map((seed) => h("option", { value: seed }, `seed ${seed}`)),
    );
  }
  set(root.seed, "value", found.seed === null ? "" : String(found.seed));
  root.pairs.update({ rows: confusion.pairs });
  root.classes.update({ rows: found.class_accuracies });
  const shown = found.class_accuracies.length;
  root.classes.caption(
    shown < confusion.of
      ? `Accuracy of each class: ${format.whole(shown)} of ${format.whole(confusion.of)}, the worst`
      : "Accuracy of each class",
  );
}

function matrixPlot(confusion) {
  const { classes, matrix, images } = confusion;
  const names = distinctNames(classes, 18);
  const share = matrix.map((row, place) => row.map((count) => (images[place] ? count / images[place] : 0)));
  const [none, all] = BLUES[Number(plot.isDark())];
  const some =
    confusion.shown < confusion.of
      ? `The ${confusion.shown} of ${format.whole(confusion.of)} classes that are confused most. `
      : "";
  const right = format.share(confusion.accuracy, 2);
  const worst = confusion.pairs[0];
  const words = worst
    ? `Most often confused: ${worst.label} taken for ${worst.predicted} (${format.whole(worst.images)} images).`
    : "No image was taken for another class.";
  return {
    title: "Confusion",
    height: Math.min(860, 150 + 30 * Math.max(6, classes.length)),
    description: `${some}${right} right of ${format.whole(confusion.all_images)}. ${words}`,
    traces: [
      {
        type: "heatmap",
        x: names,
        y: names,
        z: share,
        zmin: 0,
        zmax: 1,
        xgap: 1,
        ygap: 1,
        colorscale: [
          [0, none],
          [1, all],
        ],
        text: matrix.map((row) => row.map((count) => (count ? format.whole(count) : ""))),
        texttemplate: "%{text}",
        colorbar: { thickness: 10, tickformat: ".0%", outlinewidth: 0 },
        hovertemplate: "%{y} taken for %{x}: %{text} (%{z:.1%})<extra></extra>",
      },
    ],
    layout: {
      xaxis: {
        type: "category",
        title: { text: "taken for", standoff: 8 },
        showgrid: false,
        tickangle: classes.length > 12 ? -60 : "auto",
      },
      yaxis: { type: "category", title: { text: "class" }, autorange: "reversed", showgrid: false },
    },
    csv: { names: ["class", ...classes], rows: classes.map((name, place) => [name, ...matrix[place]]) },
  };
}

function pairTable() {
  return table({
    caption: "Confused most often",
    rowKey: (row) => JSON.stringify([row.label, row.predicted]),
    sort: "images",
    order: "desc",
    empty: "No image was taken for another class.",
    columns: [
      { key: "label", label: "Class", heading: true },
      { key: "predicted", label: "Taken for" },
      { key: "images", label: "Images", number, cell: (row) => format.whole(row.images) },
      { key: "share", label: "Of its images", number, cell: (row) => format.share(row.share, 1) },
    ],
  });
}

function classTable() {
  return table({
    caption: "Accuracy of each class",
    rowKey: (row) => row.number,
    sort: "accuracy",
    order: "asc",
    columns: [
      { key: "class", label: "Class", heading: true },
      { key: "images", label: "Images", number, cell: (row) => format.whole(row.images) },
      { key: "accuracy", label: "Accuracy", number, cell: (row) => format.share(row.accuracy, 2) },
      { key: "taken_for", label: "Most often taken for" },
      { key: "as_often", label: "As often", number, cell: (row) => format.whole(row.as_often) },
    ],
  });
}
