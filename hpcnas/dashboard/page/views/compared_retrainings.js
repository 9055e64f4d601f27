// Retrainings compared: validation accuracy of groups with bands, test accuracies with intervals, and what differs.

import { h } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";
import { band, settings, tableOf } from "./compared_parts.js";

const number = true;

export function retrainingParts() {
  return { curves: h("div", { dataset: { plot: "curves" } }), groups: h("div"), settings: h("div") };
}

export async function showRetrainings(parts, found) {
  const percent = (key) => (row) => format.share(row[key], 2);
  const half = (key) => (row) => (typeof row[key] === "number" ? `± ${(100 * row[key]).toFixed(2)}` : "–");
  const step = found.validation_step;
  const groups = tableOf(parts.groups, `retrained ${step}`, () =>
    table({
      caption: "Groups: retrainings of one genotype and recipe, of different seeds",
      rowKey: (row) => row.runs.join(" "),
      columns: [
        { key: "name", label: "Group", heading: true },
        {
          key: "complete",
          label: "Complete",
          number,
          cell: (row) => `${row.complete} of ${row.trainings}${row.diverged ? `, ${row.diverged} diverged` : ""}`,
        },
        { key: "parameters", label: "Parameters", number, cell: (row) => format.large(row.parameters) },
        { key: "flops", label: "FLOPs", number, cell: (row) => format.large(row.flops) },
        { key: "test_accuracy", label: "Test accuracy", number, cell: percent("test_accuracy") },
        { key: "test_accuracy_half", label: "95 %", number, cell: half("test_accuracy_half") },
        {
          key: "difference",
          label: "From the first",
          number,
          cell: (row) => (typeof row.difference === "number" ? points(row.difference) : "–"),
        },
        { key: "difference_half", label: "95 %", number, cell: half("difference_half") },
        { key: "test_top5", label: "Top 5", number, cell: percent("test_top5") },
        {
          key: "validation_accuracy",
          label: step === null ? "Validation" : `Validation at ${format.whole(step)}`,
          number,
          cell: percent("validation_accuracy"),
        },
        { key: "training_seconds", label: "Time", number, cell: (row) => format.duration(row.training_seconds) },
      ],
    }),
  );
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
    if (several) traces.unshift(band({ x: step, y: scaled(low) }, { x: step, y: scaled(high) }, color, group.name));
    const own = found.curves.filter((one) => group.runs.includes(one.key));
    own.forEach((one, which) => {
      traces.push({
        type: "scatter",
        mode: "lines",
        name: several ? `${one.name}, seed ${one.seed}` : group.name,
        showlegend: !several && which === 0,
        legendgroup: String(place),
        x: validated ? one.validation_step : one.step,
        y: scaled(validated ? one.validation_accuracy : one.accuracy),
        opacity: several ? 0.45 : 1,
        line: { color, dash, width: several ? 1 : 2 },
        hovertemplate: `%{y:.2f} % (seed ${Number(one.seed)})<extra></extra>`,
      });
    });
    if (several)
      traces.push({
        type: "scatter",
        mode: "lines+markers",
        name: group.name,
        legendgroup: String(place),
        x: step,
        y: scaled(mean),
        line: { color, dash, width: 2.4 },
        marker: { symbol, size: 6 },
        hovertemplate: "mean %{y:.2f} %<extra></extra>",
      });
  });
  return {
    title: validated ? "Validation accuracy" : "Accuracy on training images",
    traces,
    height: 420,
    description:
      "Thin lines are trainings; bands are 95 % confidence of their mean, where all of a group were validated.",
    layout: {
      xaxis: { title: { text: "step", standoff: 8 }, rangemode: "tozero" },
      yaxis: { title: { text: "accuracy (%)" } },
      showlegend: true,
    },
    csv: {
      names: ["retraining", "seed", "step", "validation_accuracy"],
      rows: found.curves.flatMap((one) =>
        one.validation_step.map((step, place) => [one.name, one.seed, step, one.validation_accuracy[place]]),
      ),
    },
  };
}
