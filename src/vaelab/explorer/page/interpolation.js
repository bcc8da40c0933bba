// From one latent point to another: a strip of decoded images for each model, and an animation.

import { brief } from "vaelab/address.js";
import { el, fixed, newest, save, spoken } from "vaelab/dom.js";
import { captioned, panel } from "vaelab/panels.js";
import { canvas, draw, extent, png } from "vaelab/pixels.js";
import { product } from "vaelab/shapes.js";
import { project } from "vaelab/space.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/** @typedef {import("vaelab/address.js").State} State */
/** @typedef {import("vaelab/types.js").Pixels} Pixels */
/**
 * An end: a latent point of a model, or a datum, which each model has its own code of.
 * @typedef {{model: number, z: Float32Array, datum: number}} End
 */
/** @typedef {{z: Float32Array, values: Pixels, length: number, straight: number}} Strip */

const FRAME = 90; // milliseconds of an image of the animation

/** The panel under the maps. */
export class InterpolationPanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    /** @type {(End|null)[]} */
    this.ends = [null, null];
    /** @type {Map<number, Strip>} */
    this.strips = new Map();
    this.told = el("p", { class: "soft" }, "Click on a map: the first click is the start, the next one the end.");
    this.steps = el("input", {
      type: "number", id: "steps", min: "2", max: "64", step: "1", value: "11",
      change: () => this.update(),
    });
    this.kind = el("select", { id: "path", change: () => this.update() },
      el("option", { value: "straight" }, "straight"),
      explorer.scene.can.geodesic ? el("option", { value: "geodesic" }, "along the data") : null);
    this.place = el("input", {
      type: "range", id: "place", min: "0", max: "1", step: "any", value: "0",
      input: () => this.frame(Number(this.place.value)),
    });
    this.rows = el("div", { class: "strips" });
    this.play = el("button", { type: "button", "aria-pressed": "false", click: () => this.run() }, "Play");
    this.element = panel("Interpolation", this.told,
      el("div", { class: "switches" },
        el("label", { for: "steps" }, "steps ", this.steps),
        el("label", { for: "path" }, "path ", this.kind),
        this.play, el("label", { for: "place" }, "position ", this.place),
        el("button", { type: "button", click: () => this.savePng() }, "Save PNG"),
        explorer.scene.can.gif
          ? el("button", { type: "button", click: () => this.saveGif() }, "Save GIF") : null),
      this.rows);
    this.update = newest(() => this.computed());
  }

  /** A click on a map. @param {number} model @param {Float32Array} z */
  pick(model, z) {
    const whole = this.ends[0] !== null && this.ends[1] !== null;
    if (whole || this.ends[0] === null) this.ends = [{ model, z, datum: -1 }, null];
    else this.ends[1] = { model, z, datum: -1 };
    this.update();
  }

  /** An end is dragged. @param {number} which @param {number} model @param {Float32Array} z */
  drag(which, model, z) {
    this.ends[which] = { model, z, datum: -1 };
    this.update();
  }

  /** @param {number} which 0 for the start, 1 for the end @param {number} datum */
  pickDatum(which, datum) {
    this.ends[which] = { model: 0, z: new Float32Array(0), datum };
    this.update();
  }

  /** An end as each model has it; null where it has none. @param {End|null} end @param {number} index */
  async resolved(end, index) {
    if (end === null) return null;
    if (end.datum >= 0) return (await this.explorer.backend.codes(index, [end.datum])).loc;
    return this.explorer.along(end.model).some((model) => model.index === index) ? end.z : null;
  }

  async computed() {
    const { backend, models, scene } = this.explorer;
    const steps = Math.min(64, Math.max(2, Math.round(Number(this.steps.value)) || 11));
    this.strips.clear();
    for (const { index, map, view } of models) {
      const [start, end] = [
        await this.resolved(this.ends[0], index), await this.resolved(this.ends[1], index),
      ];
      map.mark("start", start && [project(view, start)], { text: "start" });
      map.mark("end", end && [project(view, end)], { text: "end" });
      map.mark("path", null);
      if (!start || !end) continue;
      const path = await backend.path(index, start, end, steps, this.kind.value);
      const values = await backend.decode(index, path.z);
      this.strips.set(index, { ...path, values });
      map.mark("path", chunks(path.z, start.length).map((z) => project(view, z)));
    }
    this.tell();
    this.rows.replaceChildren(...[...this.strips].map(([index, strip]) => {
      const name = models[index].name;
      const points = chunks(strip.z, models[index].dim);
      const [first, last] = [points[0], points[steps - 1]].map((z) => spoken(z));
      const picture = canvas(scene.shape, `Interpolation by ${name} from ${first} to ${last}`, steps);
      picture.dataset.model = String(index);
      draw(picture, scene.shape, strip.values, steps);
      const frame = canvas(scene.shape, `Frame of the interpolation by ${name}`);
      frame.classList.add("frame");
      frame.dataset.frame = String(index);
      const longer = `length ${fixed(strip.length)}, straight ${fixed(strip.straight)}`;
      return el("div", { class: "strip" }, captioned(name, frame), captioned(longer, picture));
    }));
    this.frame(Number(this.place.value));
    this.explorer.noted();
  }

  tell() {
    const [start, end] = this.ends.map((e) =>
      e === null ? "" : e.datum >= 0 ? `datum ${e.datum}` : spoken(e.z));
    this.told.textContent = !start ? "Choose a start." :
      end ? `From ${start} to ${end}` : `From ${start}: the next click is the end.`;
  }

  /** Shows the image nearest to a share of the way. @param {number} share */
  frame(share) {
    const { scene, models } = this.explorer;
    const each = product(scene.shape);
    for (const [index, { z, values }] of this.strips) {
      const points = chunks(z, models[index].dim);
      const at = Math.round(share * (points.length - 1));
      const target = this.rows.querySelector(`[data-frame="${index}"]`);
      if (target instanceof HTMLCanvasElement) {
        draw(target, scene.shape, values.subarray(at * each, (at + 1) * each));
      }
      models[index].map.mark("step", [project(models[index].view, points[at])]);
    }
  }

  /** Plays the strips forth and back until it is pressed again. */
  run() {
    const on = this.play.getAttribute("aria-pressed") !== "true";
    this.play.setAttribute("aria-pressed", String(on));
    this.play.textContent = on ? "Pause" : "Play";
    const began = performance.now();
    const tick = (/** @type {number} */ now) => {
      if (this.play.getAttribute("aria-pressed") !== "true" || !this.element.isConnected) return;
      const way = ((now - began) / (FRAME * Math.max(1, Number(this.steps.value) - 1))) % 2;
      const share = way > 1 ? 2 - way : Math.max(0, way);
      this.place.value = String(share);
      this.frame(share);
      requestAnimationFrame(tick);
    };
    if (on) requestAnimationFrame(tick);
  }

  /** Saves all strips as one picture, a row a model. */
  async savePng() {
    const [width, height] = extent(this.explorer.scene.shape);
    const rows = [...this.rows.querySelectorAll("canvas[data-model]")];
    if (!rows.length) return;
    const whole = el("canvas", {
      width: Math.max(...rows.map((row) => /** @type {HTMLCanvasElement} */ (row).width)),
      height: height * rows.length,
    });
    const context = whole.getContext("2d");
    rows.forEach((row, k) => context?.drawImage(/** @type {HTMLCanvasElement} */ (row), 0, k * height));
    save(await png(whole, Math.max(1, Math.round(96 / width))), "interpolation.png");
  }

  async saveGif() {
    for (const [index, { z }] of this.strips) {
      const name = this.explorer.models[index].name;
      save(await this.explorer.backend.gif(index, z), `interpolation-${name}.gif`);
    }
  }

  /** Writes the ends into the address. @param {URLSearchParams} said */
  describe(said) {
    const [start, end] = this.ends;
    for (const [name, point] of /** @type {[string, End|null][]} */ ([["start", start], ["end", end]])) {
      if (point && point.datum < 0) said.set(name, brief(point.z));
    }
    if (start && start.datum < 0) said.set("model", String(start.model));
    if (this.kind.value !== "straight") said.set("path", this.kind.value);
    if (this.steps.value !== "11") said.set("steps", this.steps.value);
  }

  /** @param {State} state */
  restore(state) {
    const model = this.explorer.models[state.model] ? state.model : 0;
    const { dim } = this.explorer.models[model];
    if ([...this.kind.options].some(({ value }) => value === state.kind)) this.kind.value = state.kind;
    this.steps.value = String(state.steps);
    state.ends.forEach((z, k) => {
      if (z && z.length === dim) this.ends[k] = { model, z: Float32Array.from(z), datum: -1 };
    });
    if (this.ends[0]) this.update();
  }
}

/** Cuts a row of numbers into points. @param {Float32Array} values @param {number} length */
function chunks(values, length) {
  return Array.from({ length: values.length / length }, (_, k) =>
    values.subarray(k * length, (k + 1) * length));
}
