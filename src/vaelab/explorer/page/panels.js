// Beside the maps: the current point decoded, the datum under the pointer, the nearest data.

import { el, fixed, newest, spoken } from "vaelab/dom.js";
import { canvas, draw } from "vaelab/pixels.js";
import { product } from "vaelab/shapes.js";
import { project } from "vaelab/space.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/** @typedef {import("vaelab/types.js").Pixels} Pixels */
/** @typedef {import("vaelab/types.js").Datum} Datum */

const NEAREST = 6;

/**
 * A titled part of the page.
 * @param {string} title
 * @param {...(Node|string|null)} children
 */
export function panel(title, ...children) {
  return el("section", { class: "panel", "aria-label": title }, el("h3", {}, title), ...children);
}

/** @param {string} caption @param {Node} picture */
export function captioned(caption, picture) {
  return el("figure", {}, picture, el("figcaption", {}, caption));
}

/** What the current point decodes to, by each model; the point can be typed, or set by sliders. */
export class PointPanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    const { shape, models } = explorer.scene;
    this.pictures = models.map(({ name }) => canvas(shape, `Decoded by ${name}`));
    this.typed = el("input", {
      type: "text", id: "typed", spellcheck: "false", autocomplete: "off",
      change: () => this.read(),
    });
    this.wrong = el("p", { class: "wrong", role: "alert" });
    this.sliders = el("div", { class: "sliders" });
    this.details = el("details", {
      open: Math.max(...models.map((model) => model.latent_dim)) > 2,
      toggle: () => this.follow(),
    }, el("summary", {}, "Dimension by dimension"), this.sliders);
    this.element = panel("Decoded point",
      el("div", { class: "row large" }, ...models.map(({ name }, i) => captioned(name, this.pictures[i]))),
      el("label", { for: "typed" }, "z = ", this.typed), this.wrong,
      this.details,
      this.explorer.scene.can.decode === "lattice"
        ? el("p", { class: "soft" }, "Blended from a lattice of decoded images, not computed.") : null);
  }

  /** @param {number} index @param {Float32Array} z @param {Pixels} values */
  show(index, z, values) {
    const { shape, models } = this.explorer.scene;
    draw(this.pictures[index], shape, values);
    const name = `Decoded by ${models[index].name} at ${spoken(z)}`;
    this.pictures[index].setAttribute("aria-label", name);
  }

  /** Shows the numbers of the current point. */
  follow() {
    const { active, models } = this.explorer;
    if (!models[active]) return; // the page is still being built
    const { z } = models[active];
    if (document.activeElement !== this.typed) {
      this.typed.value = Array.from(z, (v) => Number(v.toFixed(3))).join(", ");
    }
    if (!this.details.open) return;
    if (this.sliders.childElementCount !== z.length) this.sliders.replaceChildren(...this.rows(z));
    this.sliders.querySelectorAll("input").forEach((input, i) => {
      input.value = String(z[i]);
      const output = input.nextElementSibling;
      if (output) output.textContent = fixed(z[i]);
    });
  }

  /** @param {Float32Array} z */
  rows(z) {
    const far = this.explorer.models.map(({ view }) =>
      view.points.reduce((most, u) => Math.max(most, Math.abs(u)), 0));
    const limit = Math.max(4, Math.ceil(Math.max(...far)));
    return Array.from(z, (_, i) =>
      el("label", {}, `z${i + 1} `,
        el("input", {
          type: "range", min: -limit, max: limit, step: "0.01",
          input: (/** @type {Event} */ event) => {
            const { active, models } = this.explorer;
            const point = Float32Array.from(models[active].z);
            point[i] = Number(/** @type {HTMLInputElement} */ (event.target).value);
            this.explorer.at(active, point);
          },
        }),
        el("output", {}, "")));
  }

  /** Takes the point that was typed. */
  read() {
    const { active, models } = this.explorer;
    const { dim } = models[active];
    const numbers = this.typed.value.replace(/−/g, "-").replace(/[()\s]+/g, " ").trim().split(/[ ,;]+/).map(Number);
    const right = numbers.length === dim && numbers.every(Number.isFinite);
    this.wrong.textContent = right ? "" : `z needs ${dim} numbers, such as 0.5, 0.2.`;
    if (right) this.explorer.at(active, Float32Array.from(numbers));
  }
}

/** The datum that is pointed at: itself, its reconstructions, its figures. */
export class DatumPanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.index = -1;
    /** @type {Datum|null} */
    this.datum = null;
    this.body = el("div", {}, el("p", { class: "soft" }, "Point at a datum on a map."));
    this.number = el("input", {
      type: "number", id: "datum", min: "0", max: String(explorer.scene.count - 1), step: "1",
      change: () => this.hover(Number(this.number.value)),
    });
    this.element = panel("Datum", el("label", { for: "datum" }, "number ", this.number), this.body,
      explorer.edges.near, explorer.scene.note ? el("p", { class: "soft note" }, explorer.scene.note) : null,
      explorer.scene.can.hover === "some"
        ? el("p", { class: "soft" }, "This page carries a random part of the data.") : null);
    this.load = newest(async (/** @type {number} */ index) => {
      this.show(index, await explorer.backend.datum(index));
    });
  }

  /** @param {number} index −1 leaves the last one in place */
  hover(index) {
    const { count } = this.explorer.scene;
    if (!(index >= 0 && index < count) || index === this.index) return;
    this.index = Math.floor(index);
    this.explorer.edges.point(this.index);
    this.load(this.index);
  }

  /** Marks the datum on the maps. */
  remark() {
    const { models } = this.explorer;
    this.datum?.models.forEach(({ z }, i) => {
      models[i].map.mark("datum", [project(models[i].view, z)]);
    });
  }

  /** @param {number} index @param {Datum} datum */
  show(index, datum) {
    this.datum = datum;
    const { scene, models, strip } = this.explorer;
    const called = this.explorer.called(index) && `, class ${this.explorer.called(index)}`;
    this.number.value = String(index);
    const own = datum.image && canvas(scene.shape, `Datum ${index}${called}`);
    if (own && datum.image) draw(own, scene.shape, datum.image);
    const made = datum.models.map(({ image }, i) => {
      const picture = canvas(scene.shape, `Reconstruction by ${models[i].name}`);
      draw(picture, scene.shape, image);
      return captioned(models[i].name, picture);
    });
    this.remark();
    const ends = ["start", "end"].map((way, k) =>
      el("button", { type: "button", click: () => strip.pickDatum(k, index) }, `Use as ${way}`));
    this.body.replaceChildren(
      el("div", { class: "row" }, own && captioned(`${datum.split} ${datum.row}${called}`, own), ...made),
      this.figures(datum), el("p", { class: "buttons" }, ...ends));
  }

  /** @param {Datum} datum */
  figures(datum) {
    const { models } = this.explorer;
    const names = /** @type {const} */ (["elbo", "rate", "distortion"]);
    if (datum.models.every((placed) => placed.elbo === null)) return el("p", {});
    return el("table", {},
      el("caption", {}, "nats"),
      el("thead", {}, el("tr", {}, el("th", {}), ...names.map((n) => el("th", { scope: "col" }, n)))),
      el("tbody", {}, ...datum.models.map((placed, i) =>
        el("tr", {}, el("th", { scope: "row" }, models[i].name),
          ...names.map((n) => el("td", {}, placed[n] === null ? "–" : fixed(placed[n] ?? 0)))))));
  }
}

/** The data whose codes are nearest to the current point. */
export class NeighboursPanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.row = el("div", { class: "row small" });
    this.element = panel("Nearest data", this.row);
    this.element.hidden = explorer.scene.can.hover === "none";
    this.follow = newest(async () => {
      const { active, models, scene, backend } = explorer;
      if (scene.can.hover === "none") return;
      const { indices, distances } = await backend.nearest(active, models[active].z, NEAREST);
      const values = await backend.images(indices);
      const each = product(scene.shape);
      this.row.replaceChildren(...Array.from(indices, (index, k) => {
        const called = explorer.called(index) || `#${index}`;
        const picture = canvas(scene.shape, `Datum ${index}, ${called}`);
        draw(picture, scene.shape, values.subarray(k * each, (k + 1) * each));
        const button = el("button", {
          type: "button", class: "bare", click: () => explorer.datum.hover(index),
        }, picture);
        return captioned(`${called} · ${fixed(distances[k])}`, button);
      }));
    });
  }
}
