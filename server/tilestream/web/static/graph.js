// A small graph of the last minutes. Its numbers stand beside it as text, so it is hidden from screen readers.

import { svg } from "./dom.js";

const FEWEST = 30; // looks that the width has room for at first
const HEIGHT = 32;
const MARGIN = 2;

export class Graph {
  constructor(low, high) {
    this.low = low;
    this.high = high;
    this.element = svg("svg", {
      class: "graph",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.element.append(this.area, this.line);
  }

  /** Draw values, the latest on the right, and return what the bottom and the top stand for. */
  show(values) {
    const known = values.filter((value) => value !== null);
    const [low, high] = this.#range(known);
    const width = Math.max(FEWEST, values.length) - 1;
    const begin = width + 1 - values.length;
    this.element.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const y = (value) => MARGIN + (HEIGHT - 2 * MARGIN) * (1 - (value - low) / (high - low));
    let line = "";
    let area = "";
    let from = null;
    const close = (x) => {
      if (from !== null) area += `L${x} ${HEIGHT}L${from} ${HEIGHT}Z`;
      from = null;
    };
    values.forEach((value, index) => {
      const x = begin + index;
      if (value === null) {
        close(x - 1);
        return;
      }
      const step = `${from === null ? "M" : "L"}${x} ${y(value).toFixed(1)}`;
      line += step;
      area += step;
      from ??= x;
    });
    close(width);
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    return [low, high];
  }

  #range(known) {
    const low = this.low ?? Math.min(0.9, ...known);
    const high = this.high ?? Math.max(1e-3, ...known) * 1.1;
    return [low, high];
  }
}
