// What views have at their top: what is wrong, a line each, and the numbers that matter most as tiles.

import { follow, h, write } from "../elements.js";

// A list of texts, hidden while there are none, as an element with `.update(texts)`.
export function lines(attributes) {
  const root = h("ul", { ...attributes, hidden: true });
  root.update = (texts) => {
    root.hidden = texts.length === 0;
    follow(
      root,
      texts,
      (text) => text,
      (text) => h("li", {}, text),
    );
  };
  return root;
}

export function problems(id) {
  return lines({ class: "problems", id });
}

// Numbers as an element with `.update([[name, number, remark], …])`, all of them words.
export function tiles(id) {
  const root = h("dl", { class: "tiles", id });
  root.update = (told) =>
    follow(
      root,
      told,
      ([name]) => name,
      ([name]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd"), h("dd")),
      (tile, [, number, remark]) => {
        write(tile.children[1], number);
        write(tile.children[2], remark);
      },
    );
  return root;
}
