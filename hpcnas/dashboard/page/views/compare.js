// Runs compared: curves with bands, what their settings differ in, and tables. Searches, or retrainings.

import { fill, follow, h, write } from "../elements.js";
import * as format from "../format.js";
import * as plot from "../plot.js";
import { retrainingParts, showRetrainings } from "./compared_retrainings.js";
import { searchParts, showSearches } from "./compared_searches.js";
import { problems } from "./top.js";

export async function render(root, ctx) {
  root.choice = chooser(ctx);
  root.problems = problems("compare-problems");
  root.body = h("div", { class: "stack", id: "compare-body" });
  root.append(h("h1", {}, "Compare"), h("div", { class: "stack" }, root.choice, root.problems, root.body));
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  const { api, state, signal } = ctx;
  const overview = await api.json("api/overview", {}, { signal });
  root.choice.update(overview.runs);
  const keys = state.all("run");
  if (!keys.length) {
    if (!root.asked) {
      plot.purge(root.body);
      root.problems.update([]);
      fill(root.body, h("p", { class: "muted" }, "Choose the runs to compare: searches, or retrainings."));
    }
    root.asked = true;
    root.drawn = root.kind = null;
    return;
  }
  root.asked = false;
  const found = await api.json("api/compare", { run: keys }, { signal });
  const axis = state.get("axis") === "hours" ? "hours" : "evaluations";
  if (root.drawn?.[0] === found && root.drawn[1] === axis) return;
  root.drawn = [found, axis];
  root.problems.update(found.problems);
  if (root.kind !== found.kind) {
    root.kind = found.kind;
    plot.purge(root.body);
    root.parts = found.kind === "searches" ? searchParts(ctx) : retrainingParts();
    fill(
      root.body,
      h("h2", { class: "unseen" }, found.kind === "searches" ? "Searches" : "Retrainings"),
      Object.values(root.parts),
    );
  }
  await (found.kind === "searches" ? showSearches : showRetrainings)(root.parts, found, ctx, axis);
}

// ── which runs ──────────────────────────────────────────────────────────────────────────────────────────────────────
function chooser({ state }) {
  const list = h("div", { class: "options" });
  const details = h(
    "details",
    { class: "panel filters", id: "compare-choice", open: state.all("run").length < 2 },
    h("summary", {}, "Runs"),
    h("fieldset", {}, h("legend", {}, "Searches, or retrainings: their accuracies are not of one kind"), list),
  );
  details.update = (runs) => {
    const chosen = new Set(state.all("run"));
    write(details.firstChild, `Runs: ${format.whole(chosen.size)} of ${format.whole(runs.length)}`);
    follow(
      list,
      runs.filter((run) => run.kind !== "damaged"),
      (run) => run.key,
      (run) => {
        const box = h("input", { type: "checkbox", id: `compare ${run.key}` });
        box.addEventListener("change", () => {
          const now = new Set(state.all("run"));
          if (box.checked) now.add(run.key);
          else now.delete(run.key);
          state.set({ run: [...now] });
        });
        return h("label", {}, box, h("span"));
      },
      (label, run) => {
        label.firstChild.checked = chosen.has(run.key);
        write(label.lastChild, `${run.name}${run.kind === "retraining" ? " (retraining)" : ""}`);
      },
    );
  };
  return details;
}
