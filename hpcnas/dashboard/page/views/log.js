// The last lines of a run's log, as text. Whoever has scrolled to the end stays there while lines come.

import { h, write } from "../elements.js";
import * as format from "../format.js";

const NUMBERS = [200, 1000, 2000];

export async function render(root, ctx) {
  root.log = logBox(ctx);
  root.append(root.log);
  await refresh(root, ctx);
}

export async function refresh(root, ctx) {
  await root.log.refresh(ctx);
}

// The box with its choice of lines, as an element with `.refresh(ctx)`, and `.look()` for what somebody has just asked
// for; a retraining has one too.
export function logBox(ctx) {
  const lines = h("pre", { class: "wrapped", id: "log-lines", tabindex: "0", role: "region", "aria-label": "Log" });
  lines.style.maxHeight = "70vh";
  const count = h(
    "select",
    { id: "log-count" },
    NUMBERS.map((number) => h("option", { value: number }, format.whole(number))),
  );
  const size = h("span", { class: "muted", id: "log-size", role: "status" });
  const root = h(
    "div",
    { class: "panel" },
    h("div", { class: "row" }, h("label", { class: "row" }, "Last lines", count), size),
    lines,
  );
  let began = false;
  root.refresh = async ({ api, state, signal }) => {
    const found = await api.json("api/log", { run: state.get("run"), lines: count.value }, { signal });
    const atEnd = !began || lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
    began = true;
    write(lines, found.lines.join("\n"));
    lines.hidden = found.lines.length === 0;
    write(size, found.why ?? `of ${bytes(found.size)}`);
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  };
  root.look = () => root.refresh(ctx).catch(() => {}); // a failure is the next refresh's
  count.addEventListener("change", root.look);
  return root;
}

function bytes(number) {
  return number < 10_000
    ? `${format.whole(number)} bytes`
    : number < 1e7
      ? `${format.whole(number / 1000)} kB`
      : `${format.whole(number / 1e6)} MB`;
}
