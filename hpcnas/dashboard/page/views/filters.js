// Which individuals are looked at: boxes for births, states and hosts, ranges for numbers, and what is chosen as a row
// of buttons that take it away. All of it lives in the address.

import { follow, h, write } from "../elements.js";
import * as format from "../format.js";

export const GROUPS = ["birth", "state", "host", "hours", "network_of", "child_of"]; // thin out plots and table
export const REGION = ["step", "fitness", "parameters"]; // are marked in plots, and choose the rows of the table

// Takes all filters away, and goes back to the first rows.
const NONE = Object.fromEntries([...GROUPS, ...REGION, "offset"].map((name) => [name, null]));

// The filters as an element with `.update(search)`.
export function filters({ state, search }) {
  const boxes = ["birth", "state", "host"].map((name) => choices(state, name));
  const ranges = [
    range(state, "step", "Step"),
    range(state, "fitness", "Fitness", () => (format.isPercent(root.search.measure) ? 100 : 1)),
    range(state, "parameters", "Parameters"),
    range(state, "hours", "Hours since the start"),
  ];
  const chips = h("div", { class: "chips", id: "chips", role: "group", "aria-label": "Filters that are set" });
  const fields = h("div", { class: "fields" }, boxes, ranges);
  const details = h("details", { class: "filters", id: "filters" }, h("summary", {}, "Filters"), fields);
  const root = h("div", { class: "stack" }, details, chips);
  root.update = (now) => {
    root.search = now;
    for (const field of [...boxes, ...ranges]) field.update(now.filters ?? {});
    follow(
      chips,
      active(state, now.measure),
      ({ name, value }) => `${name} ${value}`,
      (one) => chip(state, one),
    );
  };
  root.update(search);
  return root;
}

function choices(state, name) {
  const words = { birth: "Birth", state: "State", host: "Host" }[name];
  const options = h("div", { class: "options" });
  const root = h("fieldset", { dataset: { filter: name } }, h("legend", {}, words), options);
  const chosen = () => (name === "host" ? state.all(name) : state.list(name));
  const change = () => {
    const values = [...options.querySelectorAll("input:checked")].map((box) => box.value);
    state.set({ [name]: name === "host" ? values : values.join(","), offset: null }, { replace: true });
  };
  root.update = (known) => {
    const names = [...new Set([...(known[`${name}s`] ?? []), ...chosen()])].filter(Boolean);
    root.hidden = names.length === 0;
    follow(
      options,
      names,
      (value) => value,
      (value) =>
        h(
          "label",
          {},
          h("input", { type: "checkbox", value, onchange: change }),
          name === "host" ? value : format.word(value),
        ),
    );
    for (const box of options.querySelectorAll("input")) box.checked = chosen().includes(box.value);
  };
  return root;
}

// Two numbers, in the unit that people read: `factor()` times what the address holds.
function range(state, name, words, factor = () => 1) {
  const inputs = ["from", "to"].map((end) =>
    h("input", {
      type: "number",
      step: "any",
      "aria-label": `${words} ${end}`,
      placeholder: end,
      dataset: { range: name, end },
    }),
  );
  const root = h(
    "fieldset",
    { dataset: { filter: name } },
    h("legend", {}, words),
    h("div", { class: "range" }, inputs[0], "–", inputs[1]),
  );
  const change = () => {
    const values = inputs.map((input) => (input.value === "" ? "" : Number(input.value) / factor()));
    state.set({ [name]: values.join("") === "" ? null : values.join(","), offset: null }, { replace: true });
  };
  for (const input of inputs) input.addEventListener("change", change);
  root.update = (known) => {
    const now = state.range(name) ?? [null, null];
    const bounds = known[name === "step" ? "steps" : name];
    inputs.forEach((input, place) => {
      if (document.activeElement !== input) input.value = now[place] === null ? "" : tidy(now[place] * factor());
      const bound = Array.isArray(bounds) ? bounds[place] : place === 0 ? 0 : bounds;
      if (typeof bound === "number") input.placeholder = roughly(bound * factor());
    });
  };
  return root;
}

// As a hint in an empty field.
function roughly(number) {
  return Math.abs(number) >= 100 ? String(Math.round(number)) : String(Number(number.toPrecision(3)));
}

function tidy(number) {
  return String(Number(number.toPrecision(6)));
}

// What is set, one entry a filter: {name, value, words}.
function active(state, measure) {
  const found = [];
  for (const name of ["birth", "state", "host"]) {
    const values = name === "host" ? state.all(name) : state.list(name);
    if (values.length)
      found.push({
        name,
        value: values.join(","),
        words: `${name}: ${values.map((one) => (name === "host" ? one : format.word(one))).join(", ")}`,
      });
  }
  for (const name of [...REGION, "hours"]) {
    const ends = state.range(name);
    if (ends) found.push({ name, value: state.get(name), words: `${name} ${between(name, ends, measure)}` });
  }
  if (state.get("network_of"))
    found.push({
      name: "network_of",
      value: state.get("network_of"),
      words: `the network of ${state.get("network_of")}`,
    });
  if (state.get("child_of"))
    found.push({ name: "child_of", value: state.get("child_of"), words: `children of ${state.get("child_of")}` });
  if (found.length > 1) found.push({ name: null, value: "all", words: "Take all away" });
  return found;
}

function between(name, [low, high], measure) {
  const told = (value) => {
    if (name === "fitness") return format.fitness(value, measure);
    return name === "parameters" ? format.large(value) : format.short(value, 5);
  };
  if (low === null) return `up to ${told(high)}`;
  return high === null ? `from ${told(low)}` : `${told(low)} to ${told(high)}`;
}

function chip(state, { name, words }) {
  const take = () => state.set(name === null ? NONE : { [name]: null, offset: null });
  const label = name === null ? words : `${words} ✕`;
  const button = h("button", { type: "button", class: "small", onclick: take, dataset: { chip: name ?? "all" } });
  if (name !== null) button.setAttribute("aria-label", `Take away: ${words}`);
  return write(button, label);
}
