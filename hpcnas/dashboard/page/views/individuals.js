// The individuals that the filters leave, as a table, fifty at a time: also what each plotted point is in words.

import { h, set, write } from "../elements.js";
import * as format from "../format.js";
import { table } from "../table.js";
import { filters, GROUPS, REGION } from "./filters.js";

const PAGE = 50;

export async function render(root, ctx) {
  root.choice = filters(ctx);
  root.rows = individualTable(ctx, "Individuals");
  root.append(h("div", { class: "panel" }, root.choice), root.rows);
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  root.choice.update(ctx.search);
  await root.rows.refresh(ctx);
}

// The table with its pages, as an element with `.refresh(ctx)`.
export function individualTable(ctx, caption) {
  const { state } = ctx;
  const rows = table({
    caption,
    columns: columns(state, () => ctx.search.measure),
    onSort: (sort, order) => state.set({ sort, order, offset: null }, { replace: true }),
    rowMark: (row) => String(row.id) === state.get("id"),
    empty: "No individual is so.",
  });
  const turn = (by) => () => state.set({ offset: Math.max(0, offset(state) + by) || null }, { replace: true });
  const count = h("span", { id: "individuals-count", role: "status" });
  const before = h("button", { type: "button", id: "individuals-before", onclick: turn(-PAGE) }, "Back");
  const after = h("button", { type: "button", id: "individuals-after", onclick: turn(PAGE) }, "Further");
  const csv = h("a", { id: "individuals-csv", href: "#", download: "individuals.csv" }, "All of them as CSV");
  const root = h("div", { id: "individuals" }, rows, h("div", { class: "pages" }, before, after, count, csv));
  root.refresh = async (now) => {
    ctx.search = now.search;
    const sort = state.get("sort") ?? "fitness";
    const order = state.get("order") ?? "desc";
    const query = { run: state.get("run"), ...state.chosen([...GROUPS, ...REGION]) };
    const found = await now.api.json(
      "api/individuals",
      { ...query, sort, order, offset: offset(state), limit: PAGE },
      { signal: now.signal },
    );
    rows.update({ rows: found.rows, sort, order });
    const last = Math.min(found.matching, offset(state) + PAGE);
    const shown = found.rows.length ? `${format.whole(offset(state) + 1)}–${format.whole(last)} of ` : "";
    write(count, `${shown}${format.whole(found.matching)} (${format.whole(found.total)} in all)`);
    before.disabled = offset(state) === 0;
    after.disabled = last >= found.matching;
    set(csv, "href", now.api.address("api/individuals.csv", query));
  };
  return root;
}

function offset(state) {
  return Number.parseInt(state.get("offset") ?? "0", 10) || 0;
}

function columns(state, measure) {
  const number = true;
  const link = (id) => h("a", { href: state.link({ id }), dataset: { id } }, String(id));
  return [
    { key: "id", label: "Individual", number, heading: true, cell: (row) => link(row.id) },
    { key: "fitness", label: "Fitness", number, cell: (row) => format.fitness(row.fitness, measure()) },
    {
      key: "std",
      label: "±",
      number,
      title: "Standard deviation of its trainings",
      sortable: false,
      cell: (row) => format.fitness(row.std, measure()),
    },
    { key: "parameters", label: "Parameters", number, cell: (row) => format.large(row.parameters) },
    { key: "birth", label: "Birth", cell: (row) => format.word(row.birth) },
    { key: "parent", label: "Parent", number, cell: (row) => (row.parent === null ? "–" : link(row.parent)) },
    { key: "state", label: "State", cell: (row) => format.word(row.failure ?? row.state) },
    { key: "step", label: "Step", number, cell: (row) => format.whole(row.step) },
    { key: "hours", label: "After", number, title: "Since the search began", cell: (row) => format.hours(row.hours) },
    { key: "seconds", label: "Took", number, cell: (row) => format.duration(row.seconds) },
    { key: "trainings", label: "Trainings", number, cell: (row) => format.whole(row.trainings) },
    { key: "attempts", label: "Attempts", number, cell: (row) => format.whole(row.attempts) },
    { key: "host", label: "Host", cell: (row) => row.host ?? "–" },
    { key: "rank", label: "Rank", number, cell: (row) => format.whole(row.rank) },
  ];
}
