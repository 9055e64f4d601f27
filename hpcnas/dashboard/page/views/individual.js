// One individual, beside the search: its cell and what the mutation changed, what was measured, where it comes from,
// where it ran, why it failed, and what to type to go on with it.

import { fill, h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { drawings } from "./cell.js";
import { attempts, copied, facts, lineage, measures, relatives } from "./facts.js";

const SECTIONS = [
  "failure",
  "facts",
  "cell",
  "curves",
  "measures",
  "lineage",
  "relatives",
  "attempts",
  "genotype",
  "go-on",
];

export async function render(root, ctx) {
  const { state } = ctx;
  const close = () => state.set({ id: null });
  root.parts = Object.fromEntries(
    SECTIONS.map((name) => [name, h("section", { id: `individual-${name}`, hidden: true })]),
  );
  root.heading = h("h2", { id: "individual-title", tabindex: "-1" });
  root.told = h("p", { class: "muted", id: "individual-summary" });
  root.append(
    h(
      "div",
      { class: "head" },
      root.heading,
      h("button", { type: "button", id: "individual-close", onclick: close }, "Close"),
    ),
    root.told,
    h("div", { class: "stack" }, Object.values(root.parts)),
  );
  const beside = matchMedia("(min-width: 1080px)").matches; // the search; else it is in its place
  ctx.signal.addEventListener("abort", () => requestAnimationFrame(() => comeBack(ctx, beside)));
  await refresh(root, ctx);
  if (!ctx.first) root.heading.focus({ preventScroll: beside });
}

// To where somebody was before, once the individual is closed.
function comeBack({ state, from }, beside) {
  if (state.get("view") !== "search" || state.get("id") !== null) return;
  if (from.focus.isConnected) from.focus.focus({ preventScroll: true });
  if (!beside) scrollTo(0, from.height);
}

export async function refresh(root, { state, api, signal }) {
  const query = { run: state.get("run"), id: state.get("id") };
  const [one, search] = await Promise.all([
    api.json("api/individual", query, { signal }),
    api.json("api/search", { run: query.run }, { signal }),
  ]);
  if (root.shown?.text === told(one) && root.shown.measure === search.measure.name) return;
  const another = root.shown?.id !== one.id;
  root.shown = { id: one.id, text: told(one), measure: search.measure.name };
  const inside = root.contains(document.activeElement);
  if (another) root.parentElement.scrollTop = 0;
  const scene = { one, measure: search.measure, link: (changes) => state.link(changes), state };
  write(root.heading, `Individual ${one.id}`);
  write(root.told, summary(scene));
  const { parts } = root;
  section(parts.failure, one.failure && `Failed: ${format.word(one.failure.kind)}`, () =>
    h("pre", { class: "wrapped", tabindex: "0" }, one.failure.message),
  );
  section(parts.facts, "What it is", () => facts(scene));
  section(parts.cell, "Its cell", () => drawings(scene));
  await curves(parts.curves, scene);
  section(parts.measures, one.accuracies.length > 0 && "Trainings", () => measures(scene));
  section(parts.lineage, one.lineage.length > 1 && "Lineage", () => lineage(scene));
  section(parts.relatives, "Relatives", () => relatives(scene));
  section(parts.attempts, one.failures.length > 0 && "Failed attempts", () => attempts(scene));
  section(parts.genotype, "Genotype", () => copied(one.genotype, "genotype"));
  if (another && inside) root.heading.focus({ preventScroll: true });
  section(parts["go-on"], "Go on with it", () =>
    Object.entries(one.commands).map(([name, text]) => copied(text, name)),
  );
}

// What changes while the page is open, besides the version of the run: nothing is drawn again that says the same.
function told(one) {
  return JSON.stringify({ ...one, version: null });
}

function summary({ one, measure }) {
  const born = `${format.word(one.birth)}${one.parent === null ? "" : ` of ${one.parent}`}`;
  const step = one.step === null ? "" : `, step ${format.whole(one.step)}`;
  const result = one.fitness === null ? format.word(one.state) : format.fitness(one.fitness, measure);
  return `${result} · ${born}${step}`;
}

// A part with its heading, or nothing where `title` is false. What a person has opened stays open.
function section(element, title, content) {
  element.hidden = !title;
  if (!title) {
    fill(element);
    return;
  }
  const open = [...element.querySelectorAll("details[open]")].map(({ id }) => id);
  fill(element, h("h3", {}, title), content());
  for (const id of open) if (id) element.querySelector(`#${id}`)?.setAttribute("open", "");
}

async function curves(element, { one, measure }) {
  const known = one.curves.filter((curve) => curve.length > 1);
  element.hidden = known.length === 0;
  if (element.hidden) {
    plot.purge(element);
    fill(element);
    return;
  }
  const factor = format.isPercent(measure) ? 100 : 1;
  const traces = known.map((curve, number) => {
    const { color, symbol, dash } = plot.series(number);
    return {
      type: "scatter",
      mode: curve.length > 30 ? "lines" : "lines+markers",
      name: `training ${number + 1}`,
      x: curve.map((_, epoch) => epoch + 1),
      y: curve.map((value) => (value === null ? null : value * factor)),
      line: { color, dash },
      marker: { color, symbol },
    };
  });
  const muted = plot.colour("--muted");
  await plot.show(element, {
    title: "Learning curves",
    height: 240,
    traces,
    description: `${known.length} trainings, ${known[0].length} measurements of each.`,
    layout: {
      xaxis: { title: { text: "measurement" } },
      yaxis: { title: { text: format.measureName(measure) } },
      shapes: one.rungs.map((rung) => ({
        type: "line",
        x0: rung,
        x1: rung,
        y0: 0,
        y1: 1,
        yref: "paper",
        line: { width: 1, dash: "dot", color: muted },
      })),
    },
  });
}
