// The machine that a search uses: workers over time and by host, throughput, failures, and what each worker does now.

import { fill, follow, h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { table } from "../table.js";
import { distinctNames } from "./names.js";
import { lines, tiles } from "./top.js";

const KINDS = ["crash", "oom", "hang", "overrun", "nan", "error"];

export async function render(root, ctx) {
  root.tiles = tiles("machine-tiles");
  root.plots = plot.places("workers", "throughput", "hosts");
  root.training = lines({ class: "list", id: "machine-training", "aria-label": "How the workers train" });
  root.hosts = hostTable();
  root.workers = workerTable(ctx);
  root.flying = h(
    "section",
    { class: "panel" },
    h("h3", {}, "In flight"),
    h("ul", { class: "chips list", id: "in-flight" }),
  );
  root.failures = failureTable(ctx);
  root.append(
    root.tiles,
    root.training,
    h("div", { class: "plots" }, root.plots.workers, root.plots.throughput),
    root.plots.hosts,
    root.hosts,
    root.workers,
    root.flying,
    root.failures,
  );
  await refresh(root, ctx);
}

export async function refresh(root, { api, state, signal }) {
  const found = await api.json("api/machine", { run: state.get("run") }, { signal });
  root.workers.update({ rows: found.workers.map((row) => ({ ...row, running: found.running })) });
  if (root.drawn === found) return;
  root.drawn = found;
  root.tiles.update(numbers(found));
  root.training.update(found.slower);
  root.hosts.update({ rows: found.hosts });
  root.hosts.caption(
    found.hosts_left_out ? `Hosts (${format.whole(found.hosts_left_out)} more have worked less)` : "Hosts",
  );
  root.workers.caption(many(found.worker_count, found.workers.length, "Workers of the last session"));
  root.failures.update({
    rows: found.failures.map((one, place) => ({ ...one, place: found.failures.length - place })),
  });
  root.failures.caption(many(found.failed_attempts, found.failures.length, "Failed attempts"));
  flying(root.flying, found, state);
  await Promise.all([
    plot.show(root.plots.workers, workersPlot(found)),
    plot.show(root.plots.throughput, throughputPlot(found)),
    plot.show(root.plots.hosts, hostsPlot(found)),
  ]);
}

const many = (all, shown, words) => (all > shown ? `${words}: ${format.whole(shown)} of ${format.whole(all)}` : words);

function numbers(found) {
  const working = Object.entries(found.states).filter(([name]) => name.startsWith("at work"));
  const busy = working.reduce((sum, [, count]) => sum + count, 0);
  const others = Object.entries(found.states).filter(([name]) => !name.startsWith("at work") && name !== "-");
  const last = [...found.throughput].reverse().find((one) => one > 0);
  return [
    [
      "workers at work",
      found.running ? format.whole(busy) : "–",
      found.running
        ? `of ${format.whole(found.worker_count)}${others.map(([name, count]) => `, ${count} ${name}`).join("")}`
        : "not running",
    ],
    ["busy", format.share(found.busy_share), "of the workers' time so far"],
    ["throughput", format.short(last), "individuals an hour, of late"],
    ["queue", format.whole(found.queue), `${format.whole(found.in_flight_count)} in flight, a worker each`],
    ["failed attempts", format.whole(found.failed_attempts), kinds(found.failures)],
    [
      "hosts",
      format.whole(found.hosts.length + found.hosts_left_out),
      `${format.hours(found.hosts.reduce((sum, one) => sum + one.hours, 0))} of workers`,
    ],
  ];
}

function kinds(failures) {
  const counts = KINDS.map((kind) => [kind, failures.filter((one) => one.kind === kind).length]).filter(
    ([, count]) => count,
  );
  return counts.map(([kind, count]) => `${format.whole(count)} ${kind}`).join(", ") || "none";
}

// ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────
// A time in the unit in which that of the whole search reads well.
function unitOf(hours) {
  const all = hours.at(-1);
  const [name, size] = all >= 0.5 ? ["hours", 1] : all >= 0.5 / 60 ? ["minutes", 60] : ["seconds", 3600];
  return { name, of: (values) => values.map((one) => size * one) };
}

const timeAxis = (unit) => ({
  title: { text: `${unit.name} since the search began`, standoff: 8 },
  rangemode: "tozero",
});

// A function that is constant within each bin, from edge to edge.
const stairs = (values) => [...values, values.at(-1) ?? 0];

function workersPlot(found) {
  const { hours, busy, present } = found;
  const unit = unitOf(hours);
  const top = Math.max(1, ...present);
  const traces = [
    {
      type: "scatter",
      mode: "lines",
      name: "there",
      x: unit.of(hours),
      y: stairs(present),
      line: { shape: "hv", width: 1.5, dash: "dash", color: plot.COLOURS[7] },
      hovertemplate: "%{y:.1f} there<extra></extra>",
    },
    {
      type: "scatter",
      mode: "lines",
      name: "busy",
      x: unit.of(hours),
      y: stairs(busy),
      fill: "tozeroy",
      line: { shape: "hv", width: 2, color: plot.COLOURS[0] },
      hovertemplate: "%{y:.1f} busy<extra></extra>",
    },
  ];
  KINDS.forEach((kind, number) => {
    const own = found.failures.filter((one) => one.kind === kind);
    if (!own.length) return;
    const { color, symbol } = plot.series(number + 1);
    traces.push({
      type: "scatter",
      mode: "markers",
      name: `failed: ${kind}`,
      x: unit.of(own.map((one) => one.hours)),
      y: own.map(() => 1.07 * top),
      customdata: own.map((one) => one.individual),
      marker: { color, symbol, size: 8, line: { width: 1, color: plot.colour("--panel") } },
      hovertemplate: `individual %{customdata}: ${kind}<extra></extra>`,
    });
  });
  const share =
    found.busy_share === null
      ? "No time has passed yet."
      : `Workers were busy ${format.share(found.busy_share)} of their time.`;
  return {
    title: "Workers over time",
    description: `${share} ${format.whole(found.failed_attempts)} failed attempts, shown above the lines.`,
    traces,
    height: 280,
    layout: {
      xaxis: timeAxis(unit),
      yaxis: { title: { text: "workers" }, rangemode: "tozero" },
      legend: { orientation: "h", y: -0.28, x: 0 },
    },
    csv: {
      names: ["from_hour", "to_hour", "busy", "present", "individuals_per_hour"],
      rows: busy.map((value, bin) => [hours[bin], hours[bin + 1], value, present[bin], found.throughput[bin]]),
    },
  };
}

function throughputPlot(found) {
  const { hours, throughput } = found;
  const unit = unitOf(hours);
  return {
    title: "Throughput",
    description: `Up to ${format.short(Math.max(0, ...throughput))} individuals an hour, those stopped early included.`,
    height: 280,
    traces: [
      {
        type: "scatter",
        mode: "lines",
        name: "individuals an hour",
        x: unit.of(hours),
        y: stairs(throughput),
        fill: "tozeroy",
        line: { shape: "hv", width: 2, color: plot.COLOURS[2] },
        hovertemplate: "%{y:.4~g} an hour<extra></extra>",
      },
    ],
    layout: { xaxis: timeAxis(unit), yaxis: { title: { text: "individuals an hour" }, rangemode: "tozero" } },
    csv: {
      names: ["from_hour", "to_hour", "individuals_per_hour"],
      rows: throughput.map((one, bin) => [hours[bin], hours[bin + 1], one]),
    },
  };
}

function hostsPlot(found) {
  const { hosts, hours } = found;
  const unit = unitOf(hours);
  const middle = unit.of(hours.slice(1).map((end, bin) => (end + hours[bin]) / 2));
  const share = hosts.map(({ busy, workers }) => busy.map((value) => (workers ? value / workers : 0)));
  return {
    title: "Busy workers by host",
    description: hosts.length
      ? `Hosts: ${format.whole(hosts.length)}. Bright is busy, dull is waiting or gone; the table of hosts has numbers.`
      : "No host has ended anything yet.",
    height: Math.min(900, 110 + 22 * Math.max(3, hosts.length)),
    traces: [
      {
        type: "heatmap",
        x: middle,
        y: distinctNames(
          hosts.map((one) => one.host),
          24,
        ),
        z: share,
        zmin: 0,
        zmax: 1,
        xgap: 0.5,
        ygap: 2,
        colorscale: plot.scale().map((color, number, all) => [number / (all.length - 1), color]),
        colorbar: { thickness: 10, tickformat: ".0%", outlinewidth: 0, title: { text: "busy", side: "right" } },
        hovertemplate: `%{y}, after %{x:.3~g} ${unit.name}: %{z:.0%} busy<extra></extra>`,
      },
    ],
    layout: {
      xaxis: { ...timeAxis(unit), rangemode: "normal" },
      yaxis: { type: "category", autorange: "reversed", showgrid: false },
    },
    csv: {
      names: ["host", "from_hour", "to_hour", "busy_workers", "workers"],
      rows: hosts.flatMap((one) =>
        one.busy.map((value, bin) => [one.host, hours[bin], hours[bin + 1], value, one.workers]),
      ),
    },
  };
}

// ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────
const number = true;

function hostTable() {
  return table({
    caption: "Hosts",
    rowKey: (row) => row.host,
    sort: "host",
    order: "asc",
    empty: "No host has ended anything yet.",
    columns: [
      { key: "host", label: "Host", heading: true },
      { key: "workers", label: "Workers", number, cell: (row) => format.whole(row.workers) },
      { key: "hours", label: "Worker time", number, cell: (row) => format.hours(row.hours) },
      { key: "evaluated", label: "Evaluated", number, cell: (row) => format.whole(row.evaluated) },
      { key: "failed", label: "Failed attempts", number, cell: (row) => format.whole(row.failed) },
      { key: "devices", label: "Devices", sortable: false, cell: (row) => row.devices.join(", ") },
    ],
  });
}

function workerTable(ctx) {
  const now = () => Date.now() / 1000;
  const atWork = (row) => row.running && row.state.startsWith("at work");
  return table({
    caption: "Workers of the last session",
    rowKey: (row) => row.rank,
    sort: "rank",
    order: "asc",
    empty: "No session has begun.",
    columns: [
      { key: "rank", label: "Rank", number, heading: true, cell: (row) => format.whole(row.rank) },
      { key: "host", label: "Host", cell: (row) => row.host || "–" },
      { key: "device", label: "Device", cell: (row) => row.device || "–" },
      { key: "state", label: "State", cell: (row) => (row.state === "-" ? "–" : row.state) },
      {
        key: "since",
        label: "At it for",
        number,
        value: (row) => (atWork(row) ? -row.since : null),
        cell: (row) => (atWork(row) ? format.duration(Math.max(0, now() - row.since)) : "–"),
      },
      { key: "typical", label: "Usually", number, cell: (row) => format.duration(row.typical) },
      { key: "evaluated", label: "Evaluated", number, cell: (row) => format.whole(row.evaluated) },
      { key: "stopped", label: "Stopped early", number, cell: (row) => format.whole(row.stopped) },
      { key: "failed", label: "Failed", number, cell: (row) => format.whole(row.failed) },
      { key: "last", label: "Last", number, cell: (row) => individual(ctx.state, row.last) },
      {
        key: "last_fitness",
        label: "Its fitness",
        number,
        cell: (row) => format.fitness(row.last_fitness, ctx.search.measure),
      },
    ],
  });
}

function failureTable(ctx) {
  return table({
    caption: "Failed attempts",
    rowKey: (row) => row.place,
    sort: "hours",
    order: "desc",
    empty: "No attempt has failed.",
    columns: [
      { key: "hours", label: "After", number, cell: (row) => format.hours(row.hours) },
      { key: "kind", label: "Kind" },
      { key: "host", label: "Host" },
      { key: "individual", label: "Individual", number, cell: (row) => individual(ctx.state, row.individual) },
    ],
  });
}

function individual(state, id) {
  return id === null || id === undefined ? "–" : h("a", { href: state.link({ id }) }, String(id));
}

function flying(section, found, state) {
  const [heading, list] = section.children;
  const more = found.in_flight_count - found.in_flight.length;
  const words = found.running ? "In flight" : "To be issued again";
  write(
    heading,
    more > 0 ? `${words}: the longest ${format.whole(found.in_flight.length)}, ${format.whole(more)} more` : words,
  );
  section.hidden = found.in_flight.length === 0;
  follow(
    list,
    found.in_flight,
    (one) => one.id,
    () => h("li"),
    (item, one) => {
      const age = found.running ? ` (${format.duration(one.seconds)})` : "";
      if (item.dataset.shown === age) return;
      item.dataset.shown = age;
      fill(item, individual(state, one.id), age);
    },
  );
}
