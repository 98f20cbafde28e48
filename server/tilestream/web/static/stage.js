// The picture: the camera's frame, its labels over it, and on demand which bins were computed.

import { el, write } from "./dom.js";

const OPACITY = 55; // percent, at first
const LINE = 1.5; // CSS pixels, of the frame of a bin

export class Stage {
  paused = false;
  onResume = () => {};

  constructor() {
    this.frame = el("canvas", { className: "frame" });
    this.labels = el("canvas", { className: "labels" });
    this.bins = el("canvas", { className: "bins", hidden: true });
    this.canvases = el(
      "div",
      { className: "canvases", role: "img", "aria-label": "No picture yet", hidden: true },
      this.frame,
      this.labels,
      this.bins,
    );
    this.waiting = el("p", { className: "nobody" }, "Waiting for the camera's next frame …");
    this.caption = el("p", { className: "about" });
    this.opacity = el("input", { type: "range", id: "opacity", min: 0, max: 100, value: OPACITY });
    this.percent = el("output", { htmlFor: "opacity" });
    this.asksBins = el("input", { type: "checkbox", id: "bins" });
    this.pause = el("button", { type: "button", "aria-pressed": "false" }, "Pause");
    this.element = el(
      "div",
      { className: "stage" },
      this.canvases,
      this.waiting,
      this.caption,
      el(
        "div",
        { className: "controls" },
        el("label", { htmlFor: "opacity" }, "Labels"),
        this.opacity,
        this.percent,
        el(
          "label",
          { htmlFor: "bins", title: "red: computed in this frame; dark: reused" },
          this.asksBins,
          "Bins",
        ),
        this.pause,
      ),
    );
    this.opacity.addEventListener("input", () => this.#blend());
    this.asksBins.addEventListener("change", () => {
      this.bins.hidden = true;
    });
    this.pause.addEventListener("click", () => this.#turn());
    this.#blend();
  }

  get wantsBins() {
    return this.asksBins.checked;
  }

  /** Draw a picture, all of it at once. */
  async show({ about, frame, labels }) {
    const [photo, mask] = await Promise.all([createImageBitmap(frame), createImageBitmap(labels)]);
    this.waiting.hidden = true;
    this.canvases.hidden = false;
    this.canvases.style.setProperty("--aspect", String(photo.width / photo.height));
    paint(this.frame, photo);
    paint(this.labels, mask);
    this.#drawBins(about.bins);
    const largest = about.areas.slice(0, 3).map((area) => `${area.name} ${Math.round(100 * area.share)} %`);
    this.canvases.setAttribute("aria-label", `Latest frame with its labels: ${largest.join(", ")}`);
    this.canvases.dataset.frame = about.frame_id;
    write(this.caption, said(about));
  }

  #blend() {
    this.labels.style.opacity = String(this.opacity.value / 100);
    write(this.percent, `${this.opacity.value} %`);
  }

  #turn() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    if (!this.paused) this.onResume();
  }

  #drawBins(bins) {
    this.bins.hidden = !bins || !this.wantsBins;
    if (this.bins.hidden) return;
    // In the screen's pixels, so that lines are as thin on a wall as on a phone.
    const scale = Math.max(1, (this.canvases.clientWidth * devicePixelRatio) / bins.width);
    this.bins.width = Math.round(bins.width * scale);
    this.bins.height = Math.round(bins.height * scale);
    const context = this.bins.getContext("2d");
    const line = (LINE * devicePixelRatio) / scale;
    context.scale(scale, scale);
    context.lineWidth = line;
    context.strokeStyle = "#ff3b30";
    context.fillStyle = "rgb(0 0 0 / 45%)";
    bins.units_computed.forEach((units, index) => {
      const x = (index % bins.columns) * bins.bin_size;
      const y = Math.floor(index / bins.columns) * bins.bin_size;
      const [width, height] = [
        Math.min(bins.bin_size, bins.width - x),
        Math.min(bins.bin_size, bins.height - y),
      ];
      if (units) context.strokeRect(x + line / 2, y + line / 2, width - line, height - line);
      else context.fillRect(x, y, width, height);
    });
  }
}

function paint(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
}

/** A line about the picture. */
function said(about) {
  const parts = [`frame ${about.frame_id}`, `${about.width} × ${about.height}`];
  if (about.stats) {
    const share = about.stats.units_total ? about.stats.units_computed / about.stats.units_total : 0;
    parts.push(about.stats.whole ? "computed in full" : `${Math.round(100 * share)} % computed`);
  }
  if (about.bins) {
    const computed = about.bins.units_computed.filter(Boolean).length;
    parts.push(`${computed} of ${about.bins.units_computed.length} bins`);
  }
  return parts.join(" · ");
}
