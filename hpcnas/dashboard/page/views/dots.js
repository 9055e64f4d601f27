// The points of the panels of a course: each individual, the best, and the one that is looked at. Of `scene`, `points`
// is what api/points has answered, `groups` are those that a colour and a shape stand for, and `region` has the ranges
// that are marked.

import * as plot from "../plot.js";
import { REGION } from "./filters.js";

// A trace of each group; where a region is marked, what is outside of it is pale.
export function dots(scene, x, y) {
  const { points } = scene.points;
  const anywhere = REGION.some((name) => scene.region[name]);
  return scene.groups.map((group) => ({
    type: "scatter",
    mode: "markers",
    name: group.name,
    customdata: group.places.map((place) => points.id[place]),
    x: group.places.map((place) => scaled(scene, x, points[x][place])),
    y: group.places.map((place) => scaled(scene, y, points[y][place])),
    marker: { size: 5, opacity: points.id.length > 1000 ? 0.6 : 0.85, line: { width: 0 }, ...group.marker },
    selectedpoints: anywhere ? inRegion(scene, group.places) : null,
    selected: { marker: { opacity: 0.9 } },
    unselected: { marker: { opacity: 0.16 } },
    hovertemplate: hover(x, y, scene),
  }));
}

function inRegion({ points: { points }, region }, places) {
  const inside = (place) =>
    REGION.every((name) => {
      if (!region[name]) return true;
      const [low, high] = region[name];
      const value = points[name][place];
      return value !== null && (low === null || value >= low) && (high === null || value <= high);
    });
  return places.flatMap((place, number) => (inside(place) ? [number] : []));
}

// A star at the best, where that is in sight.
export function bestDot(scene, x, y) {
  const look = { name: "best", symbol: "star", size: 14, edge: 1, color: plot.COLOURS[4] };
  return star(scene, pointOf(scene.points, scene.points.best_id), x, y, look);
}

// One individual among the points of an answer, by its quantities, or null.
export function pointOf({ points }, id) {
  const place = points.id.indexOf(id);
  if (place < 0) return null;
  return Object.fromEntries(["id", "step", "fitness", "parameters", "cost"].map((name) => [name, points[name][place]]));
}

// A ring around the individual that is looked at, also where it is not among the points.
export function looked(scene, x, y) {
  if (!scene.looked) return [];
  return [star(scene, scene.looked, x, y, { name: "looked at", symbol: "circle-open", size: 17, edge: 2.5 })];
}

function star(scene, one, x, y, { name, symbol, size, edge, color = plot.colour("--ink") }) {
  const value = (quantity) => scaled(scene, quantity, one?.[quantity] ?? null);
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: [value(x)],
    y: [value(y)],
    customdata: [one?.id ?? null],
    marker: { symbol, size, color, line: { width: edge, color: plot.colour("--ink") } },
    hovertemplate: hover(x, y, scene),
  };
}

// A quantity as it is drawn. What has no step yet is in flight.
function scaled({ factor }, quantity, value) {
  if (value === null || (quantity === "step" && value === 0)) return null;
  return quantity === "fitness" ? value * factor : value;
}

// What is said of a point under the pointer.
export function hover(x, y, scene) {
  const unit = scene.factor === 100 ? " %" : "";
  const told = (name, axisName) => {
    if (name === "fitness") return `fitness %{${axisName}:.4~f}${unit}`;
    return name === "step" ? `step %{${axisName}}` : `${name} %{${axisName}:.4~s}`;
  };
  return `individual %{customdata}<br>${told(x, "x")}<br>${told(y, "y")}<extra></extra>`;
}
