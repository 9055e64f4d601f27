// Plots by Plotly: one look in light and dark, each with a heading, a summary in words, and buttons that save it as
// SVG, PNG and CSV. Plotly is fetched when the first plot is shown. SVG traces alone (scatter, bar, heatmap): those of
// WebGL would make code of strings, which the page's policy forbids.
//
// An update keeps zoom and selection (Plotly.react). What leaves the page must be purged (`purge`), or a page that
// stays open for days would grow.

import { h, printable, set, write } from "./elements.js";
import { csvBlob, download, fileName, offer, saveButtons } from "./saving.js";

// Colours that people tell apart who see fewer (Okabe and Ito), always together with a shape.
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7a7a7a"];
const SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const plots = new WeakMap(); // container → {options, heading, canvas, summary, drawn, held, away, late}
const TEXTS = ["name", "text", "hovertext", "x", "y", "z", "customdata", "ticktext", "categoryarray", "title"];
const colours = new Map(); // name → what it is now
let script = null;
let drawing = Promise.resolve(); // one plot after the other, and the browser may do other things between

// Colour, marker shape and dash of the nth of several series.
export function series(number) {
  return {
    color: COLOURS[number % COLOURS.length],
    symbol: SHAPES[number % SHAPES.length],
    dash: DASHES[Math.floor(number / COLOURS.length) % DASHES.length],
  };
}

// A colour of the style sheet as the browser has worked it out: colour("--ink") → "rgb(29, 33, 39)".
export function colour(name, within = document.body) {
  if (within === document.body && colours.has(name)) return colours.get(name);
  const probe = h("span", { style: `color: var(${name})` });
  within.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  if (within === document.body) colours.set(name, found);
  return found;
}

// Whether the page is dark now.
export function isDark() {
  const [red, green, blue] = colour("--page")
    .match(/[\d.]+/g)
    .map(Number);
  return red + green + blue < 380;
}

// Colours from low to high that all eyes tell apart (cividis), without the end that the background would swallow.
export function scale() {
  if (isDark()) return ["#4f6fb5", "#6a7f9f", "#858d90", "#a59c7c", "#cdb964", "#fee838"];
  return ["#00224e", "#2f4372", "#5d636f", "#857f73", "#ae9a59", "#cfae1e"];
}

// Containers of plots that are to come, by their names.
export function places(...names) {
  return Object.fromEntries(names.map((name) => [name, h("div", { dataset: { plot: name } })]));
}

// Shows a plot in a container, which it fills, or brings it up to date.
//
// title, description  in words; the description is what a screen reader says of the picture
// traces, layout      of Plotly. Names, texts and categories may come from a run: they are shown as text. Templates of
//                     hover texts are the page's own words and must hold none of a run's
// csv                 {names, rows} or an address of the server; without it what the traces hold
// onClick(point)      of Plotly: point.customdata, point.x, …
// onBrush(range)      {x: [low, high], y: [low, high]} or null after a double click; then dragging selects
// onZoom(ranges)      {x: [low, high] or null, y: …} after somebody has zoomed
// drag                "select", "zoom" or "pan", where not what follows from the above
// height              in pixels
export async function show(container, options) {
  const plot = plots.get(container) ?? make(container, options);
  plot.options = options;
  write(plot.heading, options.title);
  write(plot.summary, options.description ?? "");
  set(plot.canvas, "aria-label", `${options.title}. ${options.description ?? ""}`);
  plot.canvas.style.height = `${options.height ?? 300}px`;
  await load();
  const drawn = drawing.then(breath).then(() => {
    if (plot.options === options && plots.get(container) === plot) return draw(plot);
  });
  drawing = drawn.catch(() => {}); // whoever has asked for it hears of it
  await drawn;
  return plot.canvas;
}

function make(container, options) {
  const heading = h("h3");
  const canvas = h("div", { class: "canvas", role: "img" });
  const summary = h("p", { class: "summary" });
  const buttons = saveButtons(options.title, (kind) => saved(plot, kind));
  const figure = h("figure", { class: "plot" }, h("figcaption", {}, heading, buttons), canvas, summary);
  const plot = { options, heading, canvas, summary, figure, drawn: false };
  container.replaceChildren(figure);
  plots.set(container, plot);
  canvas.holder = container;
  return plot;
}

// Ends the plots within an element: to be called before they leave the page.
export function purge(root) {
  for (const canvas of root.querySelectorAll(".canvas")) {
    sizes.unobserve(canvas);
    nearness.unobserve(canvas);
    if (canvas.holder) plots.delete(canvas.holder);
    if (canvas.classList.contains("js-plotly-plot")) globalThis.Plotly.purge(canvas);
  }
}

// Draws all plots again, after the colours have changed.
export function redraw() {
  colours.clear();
  for (const canvas of document.querySelectorAll(".canvas")) {
    const plot = plots.get(canvas.holder);
    if (plot?.drawn) draw(plot);
  }
}

const sizes = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) {
    if (contentRect.width > 0 && target.isConnected && target.width !== Math.round(contentRect.width)) {
      target.width = Math.round(contentRect.width);
      globalThis.Plotly.Plots.resize(target);
    }
  }
});

// What is far from the window is not drawn again until it comes near.
const nearness = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      const plot = plots.get(target.holder);
      if (!plot) continue;
      plot.away = !isIntersecting;
      if (isIntersecting) drawLate(plot);
    }
  },
  { rootMargin: "300px" },
);

function breath() {
  return new Promise((resolve) => setTimeout(resolve));
}

// Fetches Plotly. A view that is going to show plots calls it first, and then asks for its data.
export function load() {
  script ??= new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = new URL("plotly.min.js", import.meta.url).href;
    element.onload = resolve;
    element.onerror = () => {
      script = null;
      element.remove();
      reject(new Error("the plotting script could not be loaded"));
    };
    document.head.append(element);
  });
  return script;
}

async function draw(plot) {
  const { canvas, options } = plot;
  if (!canvas.isConnected) return;
  plot.late = plot.held || (plot.drawn && plot.away); // drawn when somebody lets go, or scrolls there
  if (plot.late) return;
  const layout = layoutOf(options, themeOf());
  canvas.width = Math.round(canvas.getBoundingClientRect().width);
  await globalThis.Plotly.react(canvas, clean(options.traces), layout, {
    displayModeBar: false,
    showTips: false,
    doubleClick: "autosize",
    scrollZoom: false,
  });
  canvas.dataset.drawn = Number(canvas.dataset.drawn ?? 0) + 1; // how often: who waits for the next one can tell
  if (plot.drawn) return;
  plot.drawn = true;
  sizes.observe(canvas);
  nearness.observe(canvas);
  canvas.addEventListener("pointerdown", () => hold(plot));
  let click = 0; // a double click is none
  canvas.on("plotly_doubleclick", () => clearTimeout(click));
  canvas.on("plotly_click", ({ points: [point] }) => {
    clearTimeout(click);
    if (point) click = setTimeout(() => plot.options.onClick?.(asGiven(plot, point)), 250);
  });
  canvas.on("plotly_selected", (event) => event?.range && plot.options.onBrush?.(event.range));
  canvas.on("plotly_deselect", () => plot.options.onBrush?.(null));
  canvas.on("plotly_relayout", (change) => {
    const zoomed = Object.keys(change).some((key) => /^[xy]axis\.(range|autorange)/.test(key));
    if (zoomed) plot.options.onZoom?.({ x: rangeOf(canvas, "xaxis"), y: rangeOf(canvas, "yaxis") });
  });
}

function hold(plot) {
  plot.held = true;
  const end = () => {
    removeEventListener("pointerup", end, true);
    removeEventListener("pointercancel", end, true);
    setTimeout(() => {
      plot.held = false;
      drawLate(plot);
    }, 50); // after Plotly has heard of it
  };
  addEventListener("pointerup", end, true);
  addEventListener("pointercancel", end, true);
}

function drawLate(plot) {
  if (plot.late && plots.get(plot.canvas.holder) === plot) draw(plot);
}

// Plotly's point with the customdata that the view has given, not as it was escaped.
function asGiven(plot, point) {
  const { customdata } = plot.options.traces[point.curveNumber] ?? {};
  return { ...point, customdata: customdata?.[point.pointNumber] ?? point.customdata };
}

function rangeOf(canvas, axis) {
  const found = canvas.layout[axis];
  return found.autorange || !found.range ? null : [...found.range];
}

function themeOf(within) {
  const [ink, muted, line, panel] = ["--ink", "--muted", "--line", "--panel"].map((name) => colour(name, within));
  return { ink, muted, line, panel };
}

function layoutOf(options, theme) {
  const given = clean(options.layout ?? {});
  const layout = {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    uirevision: "kept",
    margin: { l: 58, r: 14, t: 10, b: 46 },
    dragmode: options.drag ?? (options.onBrush ? "select" : "zoom"),
    showlegend: options.traces.length > 1,
    legend: { orientation: "h", y: -0.24, x: 0 },
    ...given,
    font: { family: "system-ui, sans-serif", size: 12, color: theme.muted, ...given.font },
    hoverlabel: { bgcolor: theme.panel, bordercolor: theme.line, font: { color: theme.ink } },
  };
  for (const name of ["xaxis", "yaxis", ...Object.keys(given).filter((key) => /^[xy]axis\d+$/.test(key))]) {
    layout[name] = {
      gridcolor: theme.line,
      zerolinecolor: theme.line,
      linecolor: theme.line,
      automargin: true,
      ...given[name],
    };
  }
  return layout;
}

// Plotly takes texts for a kind of HTML: what comes from a run is escaped, cut, and its control characters shown.
function clean(value, key = "") {
  if (typeof value === "string") return TEXTS.includes(key) || key === "title.text" ? plain(value) : value;
  if (Array.isArray(value)) return value.some(needsCare) ? value.map((one) => clean(one, key)) : value;
  if (value && typeof value === "object" && value.constructor === Object) {
    const inner = (name) => (key === "title" && name === "text" ? "title.text" : name);
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, clean(one, inner(name))]));
  }
  return value;
}

function needsCare(value) {
  return typeof value === "string" || (typeof value === "object" && value !== null);
}

function plain(text) {
  const shown = printable(text.length > 100 ? `${text.slice(0, 99)}…` : text);
  return shown.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// ── saving ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async function saved(plot, kind) {
  const { options } = plot;
  const name = fileName(options.title);
  if (kind === "CSV" && typeof options.csv === "string") return download(options.csv, `${name}.csv`);
  offer(kind === "CSV" ? csvBlob(csvOf(options)) : await picture(plot, kind.toLowerCase()), name, kind);
}

// As on paper: dark on white, with title and legend, whatever the page looks like.
async function picture(plot, format) {
  const paper = h("div", { style: "color-scheme: light; display: none" });
  document.body.append(paper);
  const layout = layoutOf(plot.options, themeOf(paper));
  paper.remove();
  const { layout: now } = plot.canvas; // as it is zoomed
  for (const axis of ["xaxis", "yaxis"]) layout[axis] = { ...layout[axis], range: now[axis].range, autorange: false };
  Object.assign(layout, {
    autosize: false,
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    title: { text: plain(plot.options.title) },
    margin: { l: 70, r: 30, t: 60, b: 60 },
    showlegend: plot.options.traces.length > 1,
    font: { ...layout.font, color: "#1b2027", size: 13 },
    legend: { orientation: "h", y: -0.14, x: 0 },
  });
  const size = { format, width: 960, height: 600, scale: format === "png" ? 2 : 1 };
  const data = await globalThis.Plotly.toImage({ data: clean(plot.options.traces), layout }, size);
  const [head, body] = [data.slice(0, data.indexOf(",")), data.slice(data.indexOf(",") + 1)];
  if (!head.includes("base64")) return new Blob([decodeURIComponent(body)], { type: "image/svg+xml" });
  return new Blob([Uint8Array.from(atob(body), (one) => one.charCodeAt(0))], { type: `image/${format}` });
}

function csvOf({ csv, traces }) {
  return (
    csv ?? {
      names: ["series", "x", "y"],
      rows: traces.flatMap((trace) => [...(trace.x ?? [])].map((x, place) => [trace.name ?? "", x, trace.y?.[place]])),
    }
  );
}
