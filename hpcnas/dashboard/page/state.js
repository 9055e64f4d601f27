// What is looked at, in the fragment of the address: #view=search&run=KEY&tab=course&id=17&birth=MUTATION. A link shows
// the same to whoever opens it, and back and forward work. A name may stand there several times (run=A&run=B).

const listeners = new Set();
let parameters = read();

function read() {
  return new URLSearchParams(location.hash.replace(/^#/, ""));
}

// The value of a name, or null.
export function get(name) {
  return parameters.get(name);
}

// All values of a name that may stand there several times.
export function all(name) {
  return parameters.getAll(name);
}

// The values of a name that holds a list with commas.
export function list(name) {
  return (parameters.get(name) ?? "").split(",").filter(Boolean);
}

// Two numbers of a name that holds a range, each null where it is open; or null.
export function range(name) {
  const text = parameters.get(name);
  if (!text) return null;
  const [low, high] = text.split(",").map((part) => (part.trim() === "" ? null : Number(part)));
  const wrong = [low, high].some((one) => one !== null && !Number.isFinite(one ?? null));
  return wrong || (low === null && (high ?? null) === null) ? null : [low, high ?? null];
}

// Names among `names` that are set, as parameters of a request: {name: value or [values]}.
export function chosen(names) {
  const found = {};
  for (const name of names) {
    const values = parameters.getAll(name).filter(Boolean);
    if (values.length) found[name] = values.length === 1 ? values[0] : values;
  }
  return found;
}

// Changes values: null or "" takes a name away, an array sets it several times. `replace` makes no entry in the
// history, for what is typed or dragged. Subscribers hear of it.
export function set(changes, { replace = false } = {}) {
  const wanted = link(changes);
  if (wanted === (location.hash || "#")) return;
  if (replace) history.replaceState(null, "", wanted);
  else history.pushState(null, "", wanted);
  changed();
}

// The address of the same with changes, for a link. `fresh` begins with nothing.
export function link(changes, { fresh = false } = {}) {
  const next = new URLSearchParams(fresh ? "" : parameters);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== "") next.append(name, one);
    }
  }
  return `#${next.toString().replaceAll("%2C", ",").replaceAll("%2F", "/")}`;
}

// Calls `listener()` after each change; gives a function that ends this.
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function changed() {
  parameters = read();
  for (const listener of listeners) listener();
}

addEventListener("popstate", changed); // also by a link, or where somebody edits the address
addEventListener("hashchange", () => read().toString() !== parameters.toString() && changed());
