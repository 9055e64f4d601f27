// What comparisons of searches and of retrainings share: bands of means, and tables whose columns depend on the runs.

import { h } from "../elements.js";
import { table } from "../table.js";

// The corners of a function that is constant from each x to the next.
export function stairs(x, y) {
  const found = { x: [], y: [] };
  x.forEach((at, place) => {
    if (place) {
      found.x.push(at);
      found.y.push(y[place - 1]);
    }
    found.x.push(at);
    found.y.push(y[place]);
  });
  return found;
}

export function band(low, high, color, name) {
  return {
    type: "scatter",
    mode: "lines",
    name: `${name}: 95 %`,
    showlegend: false,
    hoverinfo: "skip",
    line: { width: 0 },
    x: [...high.x, ...[...low.x].reverse()],
    y: [...high.y, ...[...low.y].reverse()],
    fill: "toself",
    fillcolor: faint(color),
  };
}

// A colour such as #0072b2, nearly transparent.
function faint(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},0.18)`;
}

// The table in a container, made anew where `sort` of its columns is another one.
export function tableOf(container, kind, make) {
  if (container.kind !== kind) {
    container.kind = kind;
    container.replaceChildren(make());
  }
  return container.firstChild;
}

export function settings(container, { columns, rows }) {
  const own = tableOf(container, `settings ${JSON.stringify(columns)}`, () =>
    table({
      caption: "Settings that differ",
      rowKey: (row) => row.name,
      empty: "No setting differs.",
      columns: [
        { key: "name", label: "Setting", heading: true },
        ...columns.map((name, place) => ({
          key: `value ${place}`,
          label: name,
          value: (row) => row.values[place],
          cell: (row) => h("span", { title: row.values[place] }, row.values[place]),
        })),
      ],
    }),
  );
  own.update({ rows });
}
