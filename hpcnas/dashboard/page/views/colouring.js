// What the colours and shapes of points mean: groups of them by a name, or a scale of a number.

import { h, svg } from "../elements.js";
import * as format from "../format.js";
import { COLOURS, scale, series } from "../plot.js";

export const COLOURINGS = [
  ["birth", "birth"],
  ["parameters", "parameters"],
  ["host", "host"],
  ["time", "time"],
  ["state", "state"],
];
const MOST = 15; // groups that have a colour and a shape of their own

// The points of an answer of api/points as groups {name, places (of the points), marker}, and the legend to them.
export function colouring({ points, births, states, hosts }, by) {
  if (by === "parameters" || by === "time") return scaled(points, by);
  const [column, names] = { birth: ["birth", births], state: ["state", states], host: ["host", hosts] }[by] ?? [
    "birth",
    births,
  ];
  return grouped(points[column], names, by === "host" ? String : format.word);
}

function grouped(indices, names, words) {
  const places = new Map();
  indices.forEach((index, place) => {
    if (!places.has(index)) places.set(index, []);
    places.get(index).push(place);
  });
  const known = [...places.keys()].sort((one, other) => one - other);
  const own = (index) => index >= 0 && index < MOST; // the same one whatever is in sight
  const groups = known.filter(own).map((index) => {
    const { color, symbol } = seriesOf(index);
    return { name: words(names[index]), places: places.get(index), marker: { color, symbol } };
  });
  const rest = known.filter((index) => !own(index)).flatMap((index) => places.get(index));
  if (rest.length)
    groups.push({ name: "all others", places: rest, marker: { color: COLOURS[7], symbol: "circle-open" } });
  return { groups, legend: groups.map(({ name, marker }) => ({ name, ...marker })) };
}

// The shape goes on where colours begin again.
function seriesOf(number) {
  const colours = COLOURS.length - 1; // without the grey of all others
  return { color: COLOURS[number % colours], symbol: series(number + Math.floor(number / colours)).symbol };
}

function scaled(points, by) {
  const values = by === "time" ? points.hours : points.parameters;
  const known = values.filter((one) => one !== null);
  const [low, high] = known.reduce(([a, b], one) => [Math.min(a, one), Math.max(b, one)], [Infinity, -Infinity]);
  const colours = scale();
  const colorscale = colours.map((color, number) => [number / (colours.length - 1), color]);
  const marker = { color: values, colorscale, cmin: low, cmax: high, showscale: false, symbol: "circle" };
  const told = by === "time" ? format.hours : format.large;
  const legend = known.length ? [{ name: `${told(low)} to ${told(high)}`, colours }] : [];
  return { groups: [{ name: by, places: values.map((_, place) => place), marker }], legend };
}

// An entry of the legend as an item of a list.
export function glyph({ name, color, symbol, colours }) {
  if (colours) {
    const style = `background: linear-gradient(90deg, ${colours.join(", ")})`;
    return h("li", {}, h("i", { class: "scale", style, "aria-hidden": "true" }), h("span", { title: name }, name));
  }
  return h("li", {}, shape(symbol, color), h("span", { title: name }, name));
}

const PATHS = {
  circle: "M1 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
  "circle-open": "M1.5 6a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
  square: "M1.5 1.5h9v9h-9z",
  diamond: "M6 0l6 6l-6 6l-6 -6z",
  "triangle-up": "M6 1l6 10h-12z",
  "triangle-down": "M6 11l6 -10h-12z",
  cross: "M4 0h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  x: "M2.5 0l3.5 3.5l3.5 -3.5l2.5 2.5l-3.5 3.5l3.5 3.5l-2.5 2.5l-3.5 -3.5l-3.5 3.5l-2.5 -2.5l3.5 -3.5l-3.5 -3.5z",
  star: "M6 0l1.8 4h4.2l-3.3 2.7l1.3 4.6l-4 -2.7l-4 2.7l1.3 -4.6l-3.3 -2.7h4.2z",
};

// A marker of a plot, for a legend.
export function shape(symbol, color) {
  const open = symbol === "circle-open";
  return svg(
    "svg",
    { viewBox: "0 0 12 12", "aria-hidden": "true" },
    svg("path", {
      d: PATHS[symbol] ?? PATHS.circle,
      fill: open ? "none" : color,
      stroke: open ? color : "none",
      "stroke-width": 2,
    }),
  );
}
