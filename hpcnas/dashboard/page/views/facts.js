// What is known of one individual, in lists and tables: of `scene` = {one, measure, link}, with `one` as api/individual
// has it.

import { copyButton, h } from "../elements.js";
import * as format from "../format.js";
import { table } from "../table.js";

const LISTED = 20; // links in a row, before the rest is left to the table

// Fitness, size, times and places.
export function facts({ one, measure }) {
  const { seconds } = one;
  const rows = [
    ["fitness", one.fitness === null ? format.word(one.state) : fitnessOf(one, measure)],
    ["expected of another training", typeof one.expected === "number" ? format.fitness(one.expected, measure) : null],
    [
      "parameters",
      one.parameters === null ? null : `${format.large(one.parameters)} (${format.whole(one.parameters)})`,
    ],
    ["ran on", one.host ? `${one.host}, ${one.device}, rank ${one.rank}` : null],
    ["took", one.finished ? format.duration(seconds.worker) : null],
    ["of which", one.finished ? parts(seconds) : null],
    ["born", format.moment(one.born)],
    ["ended", one.finished ? format.moment(one.finished) : null],
    ["attempts", one.attempts > 1 ? format.whole(one.attempts) : null],
    ["network", one.network],
  ];
  return list(rows);
}

function fitnessOf(one, measure) {
  const spread = typeof one.std === "number" ? ` ± ${format.fitness(one.std, measure)}` : "";
  const count = one.accuracies.length;
  return `${format.fitness(one.fitness, measure)}${spread}, ${count} ${count === 1 ? "training" : "trainings"}`;
}

function parts({ setup, training, validation }) {
  const told = [
    [setup, "set-up"],
    [training, "training"],
    [validation, "validation"],
  ];
  return (
    told
      .filter(([time]) => time > 0)
      .map(([time, words]) => `${words} ${format.duration(time)}`)
      .join(", ") || null
  );
}

function list(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "dl",
    { class: "facts" },
    known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

// A row for each training, and on demand the accuracy of each class.
export function measures({ one, measure }) {
  const names = Object.keys(one.measures);
  const rows = one.accuracies.map((accuracy, number) => ({
    key: number,
    number: number + 1,
    fitness: accuracy,
    ...Object.fromEntries(names.map((name) => [name, one.measures[name][number]])),
  }));
  const told = (name) => (row) => format.fitness(row[name], { name });
  const other = names.filter((name) => name !== measure.name);
  const columns = [
    { key: "number", label: "Training", number: true, cell: (row) => String(row.number) },
    { key: "fitness", label: measure.name, number: true, cell: (row) => format.fitness(row.fitness, measure) },
    ...other.map((name) => ({ key: name, label: name, number: true, cell: told(name) })),
  ];
  const all = table({ caption: "Trainings", captionHidden: true, columns, rows, sort: "number", order: "asc" });
  return [all, classes(one)];
}

function classes({ class_accuracies: found }) {
  const known = (found ?? []).filter((row) => row.length > 0);
  if (!known.length) return null;
  const rows = known[0].map((_, number) => {
    const values = known.map((row) => row[number]).filter((value) => typeof value === "number");
    return {
      key: number,
      number,
      accuracy: values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null,
    };
  });
  const columns = [
    { key: "number", label: "Class", number: true, cell: (row) => String(row.number) },
    {
      key: "accuracy",
      label: "Accuracy, mean of trainings",
      number: true,
      cell: (row) => format.share(row.accuracy, 2),
    },
  ];
  const all = table({
    caption: "Accuracy of each class",
    captionHidden: true,
    columns,
    rows,
    sort: "number",
    order: "asc",
  });
  return h("details", { id: "individual-classes" }, h("summary", {}, "Accuracy of each class"), all);
}

// From the root to it.
export function lineage({ one, measure, link }) {
  const rows = one.lineage.map((step, number) => ({ ...step, number }));
  const columns = [
    { key: "number", label: "Generation", number: true, cell: (row) => String(row.number) },
    {
      key: "id",
      label: "Individual",
      number: true,
      cell: (row) => (row.id === one.id ? String(row.id) : h("a", { href: link({ id: row.id }) }, String(row.id))),
    },
    { key: "fitness", label: "Fitness", number: true, cell: (row) => format.fitness(row.fitness, measure) },
    { key: "gain", label: "Gain", number: true, cell: (row) => format.gain(row.gain, measure) },
    { key: "parameters", label: "Parameters", number: true, cell: (row) => format.large(row.parameters) },
    { key: "change", label: "What changed", sortable: false, class: "long" },
  ];
  return table({
    caption: "Lineage",
    captionHidden: true,
    columns,
    rows,
    sort: "number",
    order: "desc",
    rowMark: (row) => row.id === one.id,
  });
}

// Parent, children, and those of the same network, as links.
export function relatives({ one, link }) {
  const to = (id) => h("a", { href: link({ id }) }, String(id));
  const parent = one.parent === null ? "none" : to(one.parent);
  const table = (name) => link({ tab: "individuals", [name]: one.id, id: null, offset: null });
  const some = (ids, total, name) => {
    if (!total) return "none";
    const shown = ids.slice(0, LISTED).flatMap((id) => [to(id), " "]);
    return [
      ...shown,
      h(
        "a",
        { href: table(name), dataset: { filter: name } },
        total > LISTED ? `all ${format.whole(total)}` : "as a table",
      ),
    ];
  };
  const same = one.same_network;
  return list([
    ["parent", parent],
    ["children", some(one.children.ids, one.children.total, "child_of")],
    [
      "same network",
      some(
        same.map(({ id }) => id),
        one.same_network_total ?? same.length,
        "network_of",
      ),
    ],
  ]);
}

// What went wrong before, each with its traceback.
export function attempts({ one }) {
  return one.failures.map((failure) => {
    const where = `${failure.host} ${failure.device}`;
    const lasted = format.duration(failure.finished - failure.started);
    const title = `Attempt ${failure.attempt}: ${format.word(failure.kind)} on ${where} after ${lasted}`;
    return h(
      "details",
      { id: `individual-attempt-${failure.attempt}` },
      h("summary", {}, title),
      h("pre", { class: "wrapped", tabindex: "0" }, failure.message),
    );
  });
}

// A text with a button that copies it.
export function copied(text, what) {
  const shown = h(
    "pre",
    { class: what === "genotype" ? null : "wrapped", tabindex: "0", dataset: { text: what } },
    text,
  );
  return h(
    "div",
    { class: "copied" },
    h("div", { class: "head" }, h("h4", {}, what), copyButton(text, what, shown)),
    shown,
  );
}
