// Elements of the page, made by functions. Texts of a run are only ever set as text: there is no way from a string to
// markup here, and control characters and marks that turn the direction of writing become visible.

const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const SVG = "http://www.w3.org/2000/svg"; // the name of a kind of elements: nothing is loaded from there

// The text with control characters written out, such as \x1b.
export function printable(text) {
  return String(text).replace(INVISIBLE, (one) => {
    const code = one.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

// An HTML element: h("a", {href: "#…", class: "quiet", onclick: f, dataset: {key: "…"}}, "text", other, [more]).
// An attribute that is null, undefined or false is left out; true gives one without a value.
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// An element of SVG, likewise.
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

// Sets one attribute, as h does.
export function set(element, name, value) {
  if (typeof value === "function") {
    if (!name.startsWith("on")) throw new Error(`expected a function for an event alone, got one for ${name}`);
    element.addEventListener(name.slice(2), value);
  } else if (name.startsWith("on")) {
    throw new Error(`expected a function for ${name}`);
  } else if (name === "dataset") {
    Object.assign(element.dataset, value);
  } else if (name === "href" && !/^(#|api\/|data:,|blob:)/.test(value)) {
    throw new Error(`expected a link within the page, got ${value}`);
  } else if (
    (name === "value" && element.localName !== "option") ||
    name === "checked" ||
    name === "hidden" ||
    name === "disabled"
  ) {
    if (element[name] !== value) element[name] = value;
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    const text = value === true ? "" : printable(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(printable(child))));
}

// Puts other children into an element, and keeps the focus where an element of the same id has it.
export function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...nodes(children));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return element;
}

// Sets a text where it is another one: what did not change keeps its selection.
export function write(element, text) {
  const wanted = printable(text ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

// Makes the children of an element follow a list, one each: those with the same key are kept and updated in place.
// `make(item)` gives an element; `update(element, item)` brings one up to date.
export function follow(parent, items, key, make, update) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const name = String(key(item));
    let child = kept.get(name);
    kept.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    update?.(child, item);
    return child;
  });
  for (const child of kept.values()) child.remove();
  wanted.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  return parent;
}

// A button that copies a text. Where the browser gives no clipboard (no https, not this machine), it selects `shown`.
export function copyButton(text, what, shown) {
  const button = h("button", { type: "button", class: "small", dataset: { copy: what } }, `Copy ${what}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      said(button, "Copied");
    } catch {
      getSelection().selectAllChildren(shown);
      said(button, "Selected: press Ctrl+C");
    }
  });
  return button;
}

function said(button, words) {
  const before = button.textContent;
  button.textContent = words;
  announce(words);
  setTimeout(() => (button.textContent = before), 2500);
}

// Lets a screen reader say something.
function announce(words) {
  const place = document.getElementById("announcer");
  if (place) write(place, words);
}
