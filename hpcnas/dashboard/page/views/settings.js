// What the search was told, its sessions, and its failed attempts by kind.

import { follow, h, write } from "../elements.js";
import * as format from "../format.js";
import { table } from "../table.js";

export async function render(root, ctx) {
  const number = true;
  root.sessions = table({
    caption: "Sessions",
    rowKey: (row) => row.started,
    sort: "started",
    order: "desc",
    columns: [
      { key: "started", label: "Began", cell: (row) => format.moment(row.started) },
      { key: "seconds", label: "Lasted", number, cell: (row) => format.duration(row.seconds) },
      { key: "host", label: "Controller on" },
      { key: "workers", label: "Workers", number, cell: (row) => format.whole(row.workers) },
      { key: "evaluated", label: "Evaluated", number, cell: (row) => format.whole(row.evaluated) },
      { key: "busy_share", label: "Busy", number, cell: (row) => format.share(row.busy_share) },
      { key: "hpcnas", label: "hpcnas" },
    ],
  });
  root.failures = table({
    caption: "Failed attempts",
    rowKey: (row) => row.kind,
    sort: "attempts",
    order: "desc",
    empty: "No attempt has failed.",
    columns: [
      { key: "kind", label: "Kind", cell: (row) => format.word(row.kind) },
      { key: "attempts", label: "Attempts", number, cell: (row) => format.whole(row.attempts) },
      { key: "individuals", label: "Individuals", number, cell: (row) => format.whole(row.individuals) },
      { key: "last", label: "The last said", sortable: false },
    ],
  });
  root.sections = h("div", { class: "columns", id: "settings" });
  root.append(root.sections, root.sessions, root.failures);
  await refresh(root, ctx);
}

export async function refresh(root, { search }) {
  root.sessions.update({ rows: search.sessions });
  root.failures.update({ rows: search.failures });
  follow(
    root.sections,
    Object.entries(search.settings),
    ([name]) => name,
    newSection,
    (section, [, values]) => {
      follow(
        section.lastChild,
        Object.entries(values),
        ([key]) => key,
        newValue,
        (row, [, value]) => write(row.lastChild, told(value)),
      );
    },
  );
}

function newSection([name]) {
  return h("section", { class: "panel" }, h("h3", {}, name), h("dl", { class: "facts rows" }));
}

function newValue([key]) {
  return h("div", {}, h("dt", {}, key), h("dd"));
}

function told(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
