// Single keys that do something, for those who want them: the list that `?` opens has a box that turns them off, since
// they get in the way of those who speak to their machine.

import * as api from "./api.js";
import * as state from "./state.js";

const KEPT = "hpcnas-shortcuts";

// `pause` is what the key p does.
export function bindShortcuts({ pause }) {
  const dialog = document.getElementById("shortcuts");
  const box = document.getElementById("shortcuts-on");
  box.checked = localStorage.getItem(KEPT) !== "off";
  box.addEventListener("change", () => localStorage.setItem(KEPT, box.checked ? "on" : "off"));
  document.getElementById("help").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    if (event.key === "Escape" && state.get("id") !== null) {
      state.set({ id: null });
    } else if (box.checked) {
      act(event.key, { pause, dialog });
    }
  });
}

function act(key, { pause, dialog }) {
  const searching = state.get("view") === "search";
  if (key === "?") dialog.showModal();
  else if (key === "o") location.hash = state.link({ run: state.all("run") }, { fresh: true });
  else if (key === "c") location.hash = state.link({ view: "compare", run: state.all("run") }, { fresh: true });
  else if (key === "p") pause();
  else if (searching && /^[1-7]$/.test(key)) document.querySelectorAll('[role="tab"]')[key - 1]?.click();
  else if (searching && key === "b") showBest().catch(() => {}); // the banner says that the server is lost
  else if (searching && (key === "[" || key === "]") && state.get("id") !== null) {
    state.set({ id: Math.max(0, Number(state.get("id")) + (key === "]" ? 1 : -1)) });
  }
}

async function showBest() {
  const run = await api.json("api/search", { run: state.get("run") });
  if (run.best_id !== null) state.set({ id: run.best_id });
}
