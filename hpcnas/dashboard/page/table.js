// A table whose columns may be sorted by buttons in their headings. Rows are kept over an update, and with them focus
// and selection. A wide one scrolls within its own box.

import { follow, h, set, write } from "./elements.js";

let tables = 0;

// columns: [{key, label, number, title, sortable (default: true), cell(row) → text or node, value(row) for sorting}]
// Without `onSort` the table sorts its rows itself; with it `onSort(key, order)` is asked to hand in other rows.
// rowKey(row) names a row (default: row.id, then row.key); rowMark(row) is whether it is the one that is looked at.
// Gives an element with `.update({rows, sort, order})`.
export function table({
  caption,
  columns,
  rows = [],
  sort = null,
  order = "desc",
  onSort = null,
  rowKey,
  rowMark,
  empty = "Nothing yet.",
  captionHidden = false,
}) {
  const state = { rows, sort, order };
  const name = `table-${++tables}`;
  const nameOf = rowKey ?? ((row) => row.id ?? row.key);
  const head = h(
    "tr",
    {},
    columns.map((column) => heading(column, () => sorted(column))),
  );
  const body = h("tbody");
  const nothing = h("p", { class: "muted empty", hidden: true }, empty);
  const box = h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": name },
    h("table", {}, h("caption", { id: name, class: captionHidden && "unseen" }, caption), h("thead", {}, head), body),
  );
  const root = h("div", { class: "table" }, box, nothing);

  function sorted(column) {
    const turned = state.sort === column.key && state.order === "desc" ? "asc" : "desc";
    const next = state.sort === column.key || column.number ? turned : "asc";
    if (onSort) onSort(column.key, next);
    else root.update({ sort: column.key, order: next });
  }

  root.update = (changes = {}) => {
    Object.assign(state, changes);
    [...head.cells].forEach((cell, place) => {
      const now = columns[place].key === state.sort;
      set(cell, "aria-sort", now ? (state.order === "asc" ? "ascending" : "descending") : null);
    });
    const shown = onSort ? state.rows : inOrder(state.rows, columns, state.sort, state.order);
    follow(
      body,
      shown,
      nameOf,
      () =>
        h(
          "tr",
          {},
          columns.map((column, place) => cellOf(column, place)),
        ),
      (tr, row) => {
        columns.forEach((column, place) => fillCell(tr.cells[place], column.cell ? column.cell(row) : row[column.key]));
        const marked = Boolean(rowMark?.(row));
        tr.classList.toggle("marked", marked);
        set(tr, "aria-current", marked ? "true" : null);
      },
    );
    nothing.hidden = shown.length > 0;
    box.hidden = shown.length === 0;
  };
  root.caption = (text) => write(box.querySelector("caption"), text);
  root.update();
  return root;
}

function heading(column, onclick) {
  const label = column.sortable === false ? column.label : h("button", { type: "button", onclick }, column.label);
  return h("th", { scope: "col", class: column.number && "number", title: column.title }, label);
}

function cellOf(column, place) {
  const kind = place === 0 && column.heading ? "th" : "td";
  return h(kind, { class: [column.number && "number", column.class].filter(Boolean).join(" ") || null });
}

// An element that says the same is left where it is, since somebody may have the focus on it.
function fillCell(cell, content) {
  if (!(content instanceof Node)) {
    if (cell.firstElementChild) cell.replaceChildren();
    write(cell, content ?? "–");
    return;
  }
  const before = cell.firstElementChild;
  if (before && cell.childNodes.length === 1 && before.isEqualNode(content)) return;
  const focused = before?.contains(document.activeElement);
  cell.replaceChildren(content);
  if (focused) (content.matches("a, button, input") ? content : content.querySelector("a, button, input"))?.focus();
}

function inOrder(rows, columns, key, order) {
  const column = columns.find((one) => one.key === key);
  if (!column) return rows;
  const value = column.value ?? ((row) => row[key]);
  const sign = order === "asc" ? 1 : -1;
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    const [noA, noB] = [a === null || a === undefined, b === null || b === undefined];
    if (noA || noB) return noA - noB; // what has no value comes last
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  });
}
