// One camera: its latest picture with the labels over it, and its numbers.

import { picture } from "./api.js";
import { el, write } from "./dom.js";
import { FIGURES, NOTHING, duration, latency, nameOf, told } from "./figures.js";
import { Graph } from "./graph.js";
import { swatch } from "./overview.js";
import { Stage } from "./stage.js";

const AGAIN = 1000; // milliseconds until a picture that could not be had is asked for again
const FEW = 32; // classes that are all listed, in the model's order; of more the largest

export class Camera {
  constructor(session, server, onRefusal) {
    this.session = session;
    this.server = server;
    this.onRefusal = onRefusal;
    this.after = -1;
    this.stop = new AbortController();
    this.title = session;
    this.heading = el("h2", { tabIndex: -1 }, session);
    this.state = el("span", { className: "state" });
    this.stage = new Stage();
    this.areas = new Areas();
    this.over = el(
      "p",
      { className: "nobody", hidden: true },
      "This camera's session is over. ",
      el("a", { href: "#/" }, "All cameras"),
    );
    this.figures = FIGURES.map((figure) => new Large(figure));
    this.facts = el("dl", { className: "facts" });
    const side = el(
      "div",
      { className: "side" },
      ...(server.shows_frames ? [this.areas.element] : []),
      this.facts,
    );
    const shown = server.shows_frames
      ? this.stage.element
      : el(
          "p",
          { className: "nobody" },
          "This server shows no pictures of cameras. Whoever runs it can allow them with ",
          el("code", {}, "--web-frames"),
          ".",
        );
    this.body = el(
      "div",
      { className: "camera" },
      el(
        "div",
        { className: "main" },
        shown,
        el("dl", { className: "large" }, ...this.figures.map((one) => one.element)),
      ),
      side,
    );
    this.element = el(
      "div",
      {},
      el("nav", { "aria-label": "Back" }, el("a", { href: "#/" }, "← All cameras")),
      el("div", { className: "toolbar" }, this.heading, this.state),
      this.over,
      this.body,
    );
    this.stage.onResume = () => this.#wake?.();
    if (server.shows_frames) this.#look();
  }

  show(live, history) {
    const row = live.sessions.find((one) => one.session === this.session);
    this.#ended(!row);
    if (!row) return;
    this.title = nameOf(row);
    write(this.heading, this.title);
    write(this.state, row.state);
    this.state.dataset.state = row.state;
    this.areas.of(this.server.models.find((model) => model.name === row.model));
    for (const large of this.figures) large.show(row, history.of(this.session, large.figure.key));
    this.#facts(row);
  }

  close() {
    this.stop.abort();
    this.#wake?.();
  }

  #wake = null;

  #ended(over) {
    this.over.hidden = !over;
    this.body.hidden = over;
    this.state.hidden = over;
    if (over) this.close();
  }

  #facts(row) {
    const size = row.frame_size ? `${row.frame_size[0]} × ${row.frame_size[1]}` : NOTHING;
    const facts = {
      Session: row.session,
      ...(row.identity ? { Identity: row.identity } : {}),
      Model: row.model,
      "Connected for": duration(row.age),
      "Frame size": size,
      "Latency, median": row.latency_p50 === null ? NOTHING : latency(row.latency_p50),
      "Frames labelled": String(row.frames_ok),
      "Frames dropped": String(row.frames_dropped),
      "Frames invalid": String(row.frames_invalid),
      "Queue policy": row.queue_policy.replaceAll("_", " "),
      Weight: String(row.weight),
    };
    const known = Object.entries(facts);
    if (this.facts.childElementCount !== known.length) {
      this.facts.replaceChildren(...known.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
    }
    known.forEach(([, text], index) => write(this.facts.children[index].lastChild, text));
  }

  async #look() {
    const { signal } = this.stop;
    while (!signal.aborted) {
      if (document.hidden || this.stage.paused) {
        await this.#until();
        continue;
      }
      try {
        const next = await picture(this.session, this.after, this.stage.wantsBins, signal);
        if (next === null) continue;
        await this.stage.show(next);
        this.areas.show(next.about.areas);
        this.after = next.about.frame_id;
      } catch (error) {
        if (signal.aborted) return;
        this.onRefusal(error);
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  }

  /** Wait until somebody looks again. */
  async #until() {
    await new Promise((resolve) => {
      this.#wake = resolve;
      document.addEventListener("visibilitychange", resolve, { once: true });
    });
    this.#wake = null;
  }
}

class Large {
  constructor(figure) {
    this.figure = figure;
    this.graph = new Graph(figure.low, figure.high);
    this.value = el("dd");
    this.top = el("span", { className: "top", "aria-hidden": "true" });
    this.bottom = el("span", { className: "bottom", "aria-hidden": "true" });
    const plot = el("div", { className: "plot" }, this.graph.element, this.top, this.bottom);
    this.element = el("div", { title: figure.what }, el("dt", {}, figure.name), this.value, plot);
  }

  show(row, values) {
    write(this.value, told(this.figure, row));
    const [low, high] = this.graph.show(values);
    write(this.top, this.figure.text(high));
    write(this.bottom, this.figure.text(low));
  }
}

class Areas {
  constructor() {
    this.body = el("tbody");
    this.rows = new Map();
    this.element = el(
      "div",
      { className: "areas" },
      el("table", {}, el("caption", {}, "Share of the picture"), this.body),
    );
  }

  /** Have a row for every class of the model, where these are few: rows that stay where they are can be read. */
  of(model) {
    if (!model || this.model === model.name || model.classes.length > FEW) return;
    this.model = model.name;
    this.rows.clear();
    this.body.replaceChildren();
    model.classes.forEach((one, value) => this.#row(value, one.name, one.color));
  }

  show(areas) {
    const shares = new Map(areas.map((area) => [area.value, area]));
    if (this.model === undefined) {
      for (const row of this.rows.values()) row.element.remove();
      this.rows.clear();
      for (const area of areas.slice(0, FEW)) this.#row(area.value, area.name, area.color);
    }
    for (const [value, row] of this.rows) {
      const share = shares.get(value)?.share ?? 0;
      write(row.share, share ? `${(100 * share).toFixed(1)} %` : NOTHING);
      row.bar.style.inlineSize = `${100 * share}%`;
      row.element.classList.toggle("absent", !share);
    }
  }

  #row(value, name, color) {
    const share = el("td", { className: "share" }, NOTHING);
    const bar = el("span", { className: "bar" });
    bar.style.backgroundColor = `rgb(${color.join(" ")})`;
    const element = el(
      "tr",
      {},
      el("th", { scope: "row" }, swatch(color), name),
      share,
      el("td", { className: "bars", "aria-hidden": "true" }, bar),
    );
    this.body.append(element);
    this.rows.set(value, { element, share, bar });
  }
}
