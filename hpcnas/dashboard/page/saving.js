// Files that the page gives: pictures and tables, as they are or made from a drawing in the page.

import { h } from "./elements.js";

const SCALE = 2; // of a PNG
const LOOKS = [
  ...["fill", "stroke", "stroke-width", "stroke-dasharray", "font-family", "font-size", "font-weight", "text-anchor"],
  ...["dominant-baseline", "opacity"],
];

// A title as the name of a file: small letters, digits and hyphens.
export function fileName(title) {
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return name.replace(/^-|-$/g, "").slice(0, 80) || "plot";
}

export function download(href, name) {
  const link = h("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

// Gives a blob as a file of that kind: SVG, PNG or CSV.
export function offer(blob, name, kind) {
  const place = URL.createObjectURL(blob);
  download(place, `${name}.${kind.toLowerCase()}`);
  setTimeout(() => URL.revokeObjectURL(place), 10_000);
}

export function csvBlob({ names, rows }) {
  const lines = [names, ...rows].map((row) => row.map(csvCell).join(","));
  return new Blob([`${lines.join("\n")}\n`], { type: "text/csv" });
}

// Three buttons, of which each calls `save(kind)`.
export function saveButtons(title, save) {
  const buttons = ["SVG", "PNG", "CSV"].map((kind) =>
    h("button", { type: "button", class: "small", dataset: { save: kind }, onclick: () => save(kind) }, kind),
  );
  return h("div", { class: "save", role: "group", "aria-label": `Save: ${title}` }, buttons);
}

// The same for a drawing: `drawn` gives the SVG element and `table` its data, {names, rows}.
export function drawingButtons(title, drawn, table) {
  return saveButtons(title, async (kind) => {
    const blob = kind === "CSV" ? csvBlob(table()) : kind === "SVG" ? svgBlob(drawn()) : await pngBlob(drawn());
    offer(blob, fileName(title), kind);
  });
}

// A drawing that stands by itself: what the style sheet says is written into it, dark on white.
function svgBlob(drawing) {
  return new Blob([new XMLSerializer().serializeToString(alone(drawing))], { type: "image/svg+xml" });
}

function alone(drawing) {
  const paper = h("div", { style: "color-scheme: light; position: absolute; left: -9999px" });
  const copy = drawing.cloneNode(true);
  paper.append(copy);
  document.body.append(paper);
  for (const element of [copy, ...copy.querySelectorAll("*")]) {
    const look = getComputedStyle(element);
    element.setAttribute("style", LOOKS.map((name) => `${name}: ${look.getPropertyValue(name)}`).join("; "));
    element.removeAttribute("class");
  }
  paper.remove();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("style", "background: #ffffff");
  return copy;
}

async function pngBlob(drawing) {
  const place = URL.createObjectURL(svgBlob(drawing));
  try {
    const image = new Image();
    image.src = place;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [SCALE * image.width, SCALE * image.height];
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(place);
  }
}

// A text that a spreadsheet would take for a formula gets a quotation mark before it.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
