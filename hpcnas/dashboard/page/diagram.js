// Draws cells, motifs and expanded networks as SVG, from the geometry that the server works out. A changed edge is
// dashed and thick and has a mark at its name, so that nobody needs to see its colour.

import { h, svg } from "./elements.js";
import { drawingButtons } from "./saving.js";

const UNIT = 56; // pixels between neighbouring nodes
const ROOM = 0.42; // units around a diagram
const RADIUS = 0.13; // of a node
const OPERATIONS = {
  "1x1": "#e69f00",
  dw: "#56b4e9",
  sep: "#0072b2",
  max: "#d55e00",
  avg: "#cc79a7",
  id: "#8a8a8a",
};

// The motifs of a drawing, the cell first, as figures: `only` chooses some by their names; `whose` it is begins the
// names of the files that they are saved as.
export function motifs(drawing, whose, only = null) {
  return drawing.motifs
    .filter(({ name }) => !only || only.includes(name))
    .map((motif) => {
      const uses = motif.uses > 1 ? `, used ${motif.uses}×` : "";
      const drawn = diagram(motif.diagram, motif.name, drawing.operations);
      const caption = h("figcaption", {}, h("span", {}, h("strong", {}, motif.name), uses));
      const edges = () => edgeTable(motif.diagram);
      caption.append(drawingButtons(`${whose} ${motif.name}`, () => drawn, edges));
      return h("figure", { class: "motif", dataset: { motif: motif.name } }, caption, drawn);
    });
}

// Names of the motifs in which an edge has changed.
export function changedMotifs(drawing) {
  return drawing.motifs.filter(({ diagram: { edges } }) => edges.some((edge) => edge.changed)).map(({ name }) => name);
}

// One diagram of a motif as SVG, with a title for each edge.
export function diagram(drawn, name, meanings = {}) {
  const place = placing(drawn, UNIT);
  const edges = drawn.edges.map((edge) => edgeOf(edge, place, meanings, true));
  const dots = drawn.dots.map((dot) => dotOf(dot, place));
  return picture(place, `${name}: ${inWords(drawn)}`, [edges, dots], "diagram");
}

// The edges of a diagram, for a file.
function edgeTable(drawn) {
  const rows = drawn.edges.map((edge) => [...nodesOf(edge, drawn), edge.operation, edge.changed ? 1 : 0]);
  return { names: ["from", "to", "operation", "changed"], rows };
}

// The expanded network as a figure.
export function expandedFigure(drawn, name, meanings = {}) {
  const picture = expanded(drawn, name, meanings);
  const uses = Map.groupBy(drawn.edges, (edge) => edge.operation);
  const rows = [...uses].map(([operation, edges]) => [operation, edges.length]);
  const operations = () => ({ names: ["operation", "times"], rows });
  const box = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Expanded network" }, picture);
  return [drawingButtons(`${name} expanded`, () => picture, operations), box];
}

// Motifs as boxes, feature maps handed on as thin lines.
function expanded(drawn, name, meanings = {}) {
  const place = placing(drawn, 46);
  const boxes = drawn.boxes.map((box) => boxOf(box, place));
  const wires = drawn.wires.map((wire) => svg("path", { class: "wire", d: cornered(wire.path, place) }));
  const edges = drawn.edges.map((edge) => edgeOf(edge, place, meanings, false));
  const dots = drawn.dots.map((dot) => dotOf(dot, place));
  const words = `${name}, expanded: ${drawn.boxes.length} motifs, ${drawn.edges.length} operations`;
  return picture(place, words, [boxes, wires, edges, dots], "diagram whole");
}

// What colours mean, as items of a legend.
export function operationLegend(meanings) {
  return Object.entries(meanings).map(([name, words]) => {
    const line = `${name === "id" ? "dashed" : "solid"} ${OPERATIONS[name] ?? "currentColor"}`;
    const look = `border-top: 3px ${line}; width: 18px`;
    return h("li", {}, h("i", { style: look, "aria-hidden": "true" }), h("span", {}, `${name}: ${words}`));
  });
}

// The edges of a motif as a sentence, for those who do not see them: "1 to 2 sep, 1 to 3 max (changed)".
function inWords(drawn) {
  return drawn.edges
    .map((edge) => `${nodesOf(edge, drawn).join(" to ")} ${edge.operation}${edge.changed ? " (changed)" : ""}`)
    .join(", ");
}

function nodesOf(edge, { dots }) {
  const nearest = (point) => dots.reduce((best, dot) => (far(dot.at, point) < far(best.at, point) ? dot : best));
  return [nearest(edge.path[0]).name, nearest(edge.path.at(-1)).name];
}

const far = ([a, b], [x, y]) => (a - x) ** 2 + (b - y) ** 2;

function placing({ width, above, below }, unit) {
  return {
    unit,
    x: (value) => round((value + ROOM) * unit),
    y: (value) => round((above + ROOM - value) * unit), // which grows upwards in a drawing, and downwards in SVG
    width: round((width + 2 * ROOM) * unit),
    height: round((above + below + 2 * ROOM) * unit),
  };
}

const round = (value) => Math.round(10 * value) / 10;

function picture(place, words, parts, kind) {
  const { width, height } = place;
  return svg(
    "svg",
    {
      class: kind,
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": words,
    },
    parts,
  );
}

function at([x, y], place) {
  return `${place.x(x)} ${place.y(y)}`;
}

function cornered(path, place) {
  return `M${path.map((point) => at(point, place)).join("L")}`;
}

function edgeOf(edge, place, meanings, labelled) {
  const { path, operation, changed } = edge;
  const points = path.map((point) => at(point, place));
  const line = edge.curved ? `M${points[0]}C${points.slice(1).join(" ")}` : `M${points.join("L")}`;
  const colour = OPERATIONS[operation];
  const known = meanings[operation] ? `${operation}: ${meanings[operation]}` : operation;
  const stroke = changed ? null : colour;
  return svg(
    "g",
    { class: changed && "changed", dataset: changed ? { changed: operation } : {} },
    svg("title", {}, changed ? `${known} (changed)` : known),
    svg("path", {
      class: "edge",
      d: line,
      stroke,
      style: stroke && `stroke: ${stroke}`,
      "stroke-dasharray": operation === "id" && "5 4",
    }),
    tip(path, place, changed ? null : colour),
    labelled && tag(edge, place, colour),
  );
}

// A triangle at the end of a path.
function tip(path, place, colour) {
  const [[x0, y0], [x1, y1]] = [path.at(-2), path.at(-1)];
  const angle = (Math.atan2(y0 - y1, x1 - x0) * 180) / Math.PI;
  const size = place.unit < UNIT ? 0.75 : 1;
  const turned = `translate(${at([x1, y1], place)}) rotate(${round(angle)}) scale(${size})`;
  return svg("path", { class: "tip", d: "M2 0L-7 4L-7 -4z", transform: turned, style: colour && `fill: ${colour}` });
}

function tag({ middle: [x, y], operation, changed }, place, colour) {
  const words = changed ? `◆${operation}` : operation;
  const width = 7 * words.length + 10;
  const [left, top] = [place.x(x), place.y(y)];
  const style = `stroke: ${changed ? "var(--bad)" : (colour ?? "var(--edge)")}`;
  return [
    svg("rect", { class: "tag", x: left - width / 2, y: top - 9, width, height: 18, rx: 9, style }),
    svg("text", { x: left, y: top }, words),
  ];
}

function dotOf({ at: [x, y], name }, place) {
  const short = name.length <= 2;
  const radius = round(RADIUS * place.unit * (place.unit < 60 && !name ? 0.8 : 1));
  const beside = short ? 0 : name === "in" ? -16 : 18;
  return [
    svg("circle", { class: "dot", cx: place.x(x), cy: place.y(y), r: radius }),
    name && svg("text", { x: place.x(x) + beside, y: place.y(y) }, name),
  ];
}

function boxOf({ at: [x, y], width, height, name }, place) {
  const [left, top] = [place.x(x), place.y(y + height)];
  return [
    svg("rect", {
      class: "box",
      x: left,
      y: top,
      width: round(width * place.unit),
      height: round(height * place.unit),
      rx: 7,
    }),
    svg("text", { class: "named", x: left + 15, y: top + 10 }, name),
  ];
}
