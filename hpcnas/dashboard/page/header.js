// The head of the page: links to the other views, and how the run stands that is looked at.

import * as api from "./api.js";
import { fill, h, write } from "./elements.js";
import * as format from "./format.js";
import * as state from "./state.js";

const RUNS = { search: showSearch, retraining: showRetraining }; // the views that are about one run

// Brings the head up to date with the view of that name. It asks for what the view itself asks for: one answer serves
// both. A run that cannot be read now keeps what is known of it; what is wrong with it is for the view to say.
export async function header(name, signal) {
  const runs = state.all("run");
  const [overview, compare] = ["nav-overview", "nav-compare"].map((id) => document.getElementById(id));
  overview.href = state.link({ run: runs }, { fresh: true });
  compare.href = state.link({ view: "compare", run: runs }, { fresh: true });
  overview.ariaCurrent = name === "overview" ? "page" : null;
  compare.ariaCurrent = name === "compare" ? "page" : null;
  const box = document.getElementById("run");
  if (!(name in RUNS) || box.dataset.run !== runs[0]) box.hidden = true; // not what was known of another run
  if (!(name in RUNS)) return;
  const query = { run: runs[0], seed: name === "retraining" ? state.get("seed") : null };
  try {
    RUNS[name](await api.json(`api/${name}`, query, { signal }));
  } catch {
    return;
  }
  box.dataset.run = runs[0];
  box.hidden = false;
}

function showSearch(run) {
  showProgress(run, run.done, run.total, `${format.whole(run.done)} of ${format.whole(run.total)}`);
  const known = run.best_id !== null;
  const link = known && h("a", { href: state.link({ id: run.best_id }) }, format.fitness(run.best, run.measure));
  const place = document.getElementById("run-best");
  const shown = known ? `${link.textContent} ${link.hash}` : "none";
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  fill(place, link ? ["best ", link] : "no result yet");
}

function showRetraining(run) {
  showProgress(run, run.steps_done, run.steps, `${format.whole(run.steps_done)} of ${format.whole(run.steps)} steps`);
  const place = document.getElementById("run-best");
  place.dataset.shown = "";
  write(place, "");
}

function showProgress(run, done, total, words) {
  document.title = `${run.name} – hpcnas`;
  write(document.getElementById("run-name"), run.name);
  const badge = document.getElementById("run-state");
  write(badge, run.state);
  badge.dataset.state = format.condition(run);
  const progress = document.getElementById("run-progress");
  progress.max = Math.max(1, total ?? 1);
  progress.value = done ?? 0;
  write(document.getElementById("run-done"), words);
  const known = run.running && typeof run.remaining === "number";
  const end = known ? `ends ${format.clock(run.time + run.remaining)} (in ${format.duration(run.remaining)})` : "";
  write(document.getElementById("run-end"), end);
}
