// All cameras at a glance, how the server is doing, and its models.

import { el, write } from "./dom.js";
import { FIGURES, NOTHING, duration, nameOf, overload, told } from "./figures.js";
import { Graph } from "./graph.js";

const MOST = 60; // cameras that are shown until somebody asks for more

export class Overview {
  constructor(server) {
    this.cards = new Map();
    this.most = MOST;
    this.heading = el("h2", { tabIndex: -1 }, "Cameras");
    this.filter = el("input", {
      type: "search",
      id: "filter",
      autocomplete: "off",
      placeholder: "name, model or identity",
    });
    this.list = el("ul", { className: "cameras" });
    this.nobody = el("p", { className: "nobody", hidden: true });
    this.more = el("button", { type: "button", hidden: true });
    this.tiles = new Tiles(server);
    this.filter.addEventListener("input", () => this.#again());
    this.more.addEventListener("click", () => {
      this.most += MOST;
      this.#again();
    });
    this.element = el(
      "div",
      {},
      this.tiles.element,
      el(
        "div",
        { className: "toolbar" },
        this.heading,
        el("label", { htmlFor: "filter" }, "Find ", this.filter),
      ),
      this.list,
      this.nobody,
      this.more,
      models(server.models),
    );
  }

  title = "Cameras";

  show(live, history) {
    this.last = [live, history];
    this.tiles.show(live);
    const wanted = this.filter.value.trim().toLowerCase();
    const fits = (row) =>
      [row.camera, row.session, row.model, row.identity].some((text) => text.toLowerCase().includes(wanted));
    const found = live.sessions.filter(fits);
    const shown = found.slice(0, this.most);
    this.#keep(new Set(shown.map((row) => row.session)));
    for (const row of shown) {
      let card = this.cards.get(row.session);
      if (!card) {
        card = new Card(row.session);
        this.cards.set(row.session, card);
        this.list.append(card.element);
      }
      card.show(row, history);
    }
    this.nobody.hidden = found.length > 0;
    write(
      this.nobody,
      live.sessions.length
        ? "No camera fits."
        : "No camera is connected. Start one: tilestream-client stream clip.mp4",
    );
    this.more.hidden = found.length <= shown.length;
    write(this.more, `Show more (${found.length - shown.length})`);
  }

  close() {}

  #again() {
    if (this.last) this.show(...this.last);
  }

  #keep(sessions) {
    for (const [session, card] of this.cards) {
      if (sessions.has(session)) continue;
      card.element.remove();
      this.cards.delete(session);
    }
  }
}

class Card {
  constructor(session) {
    this.link = el("a", { href: `#/camera/${session}` });
    this.state = el("span", { className: "state" });
    this.about = el("p", { className: "about" });
    this.figures = FIGURES.map((figure) => {
      const value = el("dd");
      const graph = new Graph(figure.low, figure.high);
      const element = el("div", { title: figure.what }, el("dt", {}, figure.name), value, graph.element);
      return { figure, value, graph, element };
    });
    const head = el("div", { className: "head" }, el("h3", {}, this.link), this.state);
    this.element = el(
      "li",
      { className: "card" },
      head,
      this.about,
      el("dl", {}, ...this.figures.map((one) => one.element)),
    );
    this.element.dataset.session = session;
  }

  show(row, history) {
    write(this.link, nameOf(row));
    write(this.state, row.state);
    this.state.dataset.state = row.state;
    const size = row.frame_size ? `${row.frame_size[0]}×${row.frame_size[1]}` : "no frame yet";
    write(this.about, [row.model, size, row.identity].filter(Boolean).join(" · "));
    for (const { figure, value, graph } of this.figures) {
      write(value, told(figure, row));
      graph.show(history.of(row.session, figure.key));
    }
  }
}

class Tiles {
  constructor(server) {
    this.server = server;
    this.values = { cameras: el("dd"), fps: el("dd"), load: el("dd"), up: el("dd") };
    const tile = (name, value) => el("div", {}, el("dt", {}, name), value);
    this.element = el(
      "dl",
      { className: "tiles" },
      tile(server.sees_everybody || !server.identity ? "Cameras" : "Your cameras", this.values.cameras),
      tile("Frames/s", this.values.fps),
      tile("Load", this.values.load),
      tile("Running for", this.values.up),
    );
    this.level = el("span", { className: "level" });
    this.demand = document.createTextNode("");
    this.values.load.append(this.demand, this.level);
  }

  show(live) {
    const load = overload(live.load, live.draining);
    const fps = live.sessions.reduce((sum, row) => sum + row.fps, 0);
    write(this.values.cameras, `${live.sessions.length} of ${this.server.max_sessions}`);
    write(this.values.fps, live.sessions.length ? fps.toFixed(1) : NOTHING);
    this.demand.data = `${Math.round(100 * load.demand)} % `;
    write(this.level, load.words);
    this.level.dataset.level = load.level;
    write(this.values.up, duration(live.up_seconds));
  }
}

function models(list) {
  const items = list.map((model) => {
    const facts = [
      model.gate && `gate ${model.gate}`,
      model.parameters && `${(model.parameters / 1e6).toFixed(1)} million weights`,
      model.reference_miou && `${(100 * model.reference_miou).toFixed(1)} % mIoU`,
    ].filter(Boolean);
    const name = el(
      "h3",
      {},
      model.name,
      ...(model.is_default ? [" ", el("span", { className: "badge" }, "default")] : []),
    );
    const classes = model.classes.map((one) => el("li", {}, swatch(one.color), one.name));
    return el(
      "li",
      { className: "model" },
      name,
      el("p", {}, model.description),
      el("p", { className: "about" }, facts.join(" · ")),
      el("ul", { className: "classes" }, ...classes),
    );
  });
  return el("section", {}, el("h2", {}, "Models"), el("ul", { className: "models" }, ...items));
}

/** A patch of a class's colour. */
export function swatch([red, green, blue]) {
  const patch = el("span", { className: "swatch" });
  patch.style.backgroundColor = `rgb(${red} ${green} ${blue})`;
  return patch;
}
