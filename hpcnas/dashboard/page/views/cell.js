// The cell of an individual beside its parent's, with what the mutation changed marked in both; the other motifs and
// the expanded network on demand.

import { h } from "../elements.js";
import { changedMotifs, expanded, motifs, operationLegend } from "../diagram.js";

export function drawings({ one, link }) {
  if (one.undrawable) return h("p", {}, one.undrawable);
  const legend = h("ul", { class: "legend", "aria-label": "Operations" }, operationLegend(one.drawing.operations));
  return [
    changes(one, link),
    one.parent_drawing && one.mutation.changes.length ? beside(one) : motifs(one.drawing, [one.drawing.motifs[0].name]),
    legend,
    others(one),
    whole(one),
  ];
}

function changes({ mutation }, link) {
  if (!mutation) return null;
  const parent = h("a", { href: link({ id: mutation.parent }) }, `individual ${mutation.parent}`);
  const told = mutation.changes.length
    ? h(
        "ul",
        { class: "list", id: "individual-changes" },
        mutation.changes.map((text) => h("li", {}, h("strong", {}, text))),
      )
    : h("p", { id: "individual-changes" }, "Its genotype is that of its parent.");
  const same =
    mutation.same_network &&
    mutation.changes.length > 0 &&
    h("p", { class: "muted" }, "The network is the same: what has changed counts for nothing.");
  return [h("p", { class: "muted" }, "Against its parent, ", parent, ":"), told, same];
}

// The cell, and each motif that has changed: the parent's on the left, its own on the right.
function beside(one) {
  const names = new Set([
    one.drawing.motifs[0].name,
    ...changedMotifs(one.parent_drawing),
    ...changedMotifs(one.drawing),
  ]);
  const column = (drawing, title) =>
    h("div", { dataset: { side: title } }, h("h4", {}, title), ...motifs(drawing, [...names]));
  return h(
    "div",
    { class: "drawings", id: "individual-drawings" },
    column(one.parent_drawing, `Parent ${one.mutation.parent}`),
    column(one.drawing, `Individual ${one.id}`),
  );
}

function others({ drawing }) {
  if (drawing.motifs.length < 2) return null;
  const all = h("div", { class: "drawings" });
  return opened(
    "individual-motifs",
    drawing.motifs.length === 2 ? "The motif in use" : `The ${drawing.motifs.length - 1} motifs in use`,
    all,
    () => all.replaceChildren(...motifs(drawing).slice(1)),
  );
}

function whole({ id, drawing, expanded: drawn }) {
  if (!drawn) return null;
  const box = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Expanded network" });
  return opened("individual-expanded", "The expanded network", box, () =>
    box.replaceChildren(expanded(drawn, `Individual ${id}`, drawing.operations)),
  );
}

// What is drawn when somebody opens it, and not before.
function opened(id, title, content, draw) {
  const details = h("details", { id }, h("summary", {}, title), content);
  details.addEventListener("toggle", () => details.open && !content.firstChild && draw());
  return details;
}
