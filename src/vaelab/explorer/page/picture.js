// The person's own picture, drawn or dropped: where it lands, and what the models make of it.

import { el, fixed, newest, svg } from "vaelab/dom.js";
import { captioned, panel } from "vaelab/panels.js";
import { canvas, draw } from "vaelab/pixels.js";
import { ellipse, project } from "vaelab/space.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/** @typedef {import("vaelab/types.js").Placement} Placement */

const BOARD = 168; // pixels of the side of the board
const [BINS, WIDE, TALL] = [32, 112, 26]; // of a histogram, in pixels

/** A board to draw on, and a place to drop a file. */
export class PicturePanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.board = el("canvas", {
      width: BOARD, height: BOARD, class: "board", role: "img", tabindex: "0",
      "aria-label": "Board to draw on",
    });
    this.invert = el("input", { type: "checkbox", id: "invert", change: () => this.again() });
    this.file = el("input", {
      type: "file", id: "file", accept: "image/*",
      change: () => this.file.files?.[0] && this.send(this.file.files[0]),
    });
    this.result = el("div", { "aria-live": "polite" });
    /** @type {Blob|null} */
    this.last = null;
    /** @type {Placement|null} */
    this.placement = null;
    this.send = newest(async (/** @type {Blob} */ blob) => {
      this.last = blob;
      try {
        this.show(await explorer.backend.place(blob, { invert: this.invert.checked }));
      } catch (error) {
        this.result.replaceChildren(el("p", { class: "wrong" }, String(/** @type {Error} */ (error).message)));
      }
    });
    this.element = panel("Your own picture",
      el("p", { class: "soft" }, "Draw, or drop a picture anywhere on this page."),
      el("div", { class: "row top" }, this.board, el("div", { class: "column" },
        el("button", { type: "button", click: () => this.clear() }, "Clear"),
        el("label", { for: "invert" }, this.invert, " dark on light"),
        el("label", { for: "file", class: "file" }, "File ", this.file))),
      this.result);
    this.clear();
    this.listen();
  }

  clear() {
    const context = this.board.getContext("2d");
    if (context) {
      context.fillStyle = "#000";
      context.fillRect(0, 0, BOARD, BOARD);
    }
    for (const { map } of this.explorer.models) {
      for (const name of ["picture", "posterior1", "posterior2"]) map.mark(name, null);
    }
    this.result.replaceChildren();
    this.last = this.placement = null;
  }

  again() {
    if (this.last) this.send(this.last);
  }

  listen() {
    const context = this.board.getContext("2d");
    if (!context) return;
    let drawing = false;
    const at = (/** @type {PointerEvent} */ event) => {
      const box = this.board.getBoundingClientRect();
      const factor = BOARD / box.width;
      return [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
    };
    this.board.addEventListener("pointerdown", (event) => {
      drawing = true;
      this.board.setPointerCapture(event.pointerId);
      context.beginPath();
      context.moveTo(at(event)[0], at(event)[1]);
    });
    this.board.addEventListener("pointermove", (event) => {
      if (!drawing) return;
      [context.lineWidth, context.lineCap, context.lineJoin] = [BOARD / 12, "round", "round"];
      context.strokeStyle = "#fff";
      context.lineTo(at(event)[0], at(event)[1]);
      context.stroke();
    });
    this.board.addEventListener("pointerup", () => {
      drawing = false;
      this.invert.checked = false;
      this.board.toBlob((blob) => blob && this.send(blob));
    });
    const { root } = this.explorer;
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file) this.send(file);
    });
  }

  /** Marks where the picture lands, and its posteriors. */
  remark() {
    const { models } = this.explorer;
    this.placement?.models.forEach(({ z, scale }, i) => {
      const { map, view } = models[i];
      map.mark("picture", [project(view, z)], { text: "yours" });
      for (const times of [1, 2]) {
        map.mark(`posterior${times}`, ellipse(view, z, scale, times), { closed: true });
      }
    });
  }

  /** @param {Placement} placement */
  show(placement) {
    this.placement = placement;
    const { scene, models } = this.explorer;
    const own = canvas(scene.shape, "Your picture, as the models read it");
    draw(own, scene.shape, placement.image);
    const made = placement.models.map(({ image }, i) => {
      const picture = canvas(scene.shape, `Reconstruction of your picture by ${models[i].name}`);
      draw(picture, scene.shape, image);
      return captioned(models[i].name, picture);
    });
    this.remark();
    const rows = placement.models.map((placed, i) => el("tr", {},
      el("th", { scope: "row" }, models[i].name),
      ...[placed.elbo, placed.log_p].map((value) => el("td", {}, fixed(value))),
      el("td", {}, `${Math.round(100 * placed.log_p_rank)} %`),
      el("td", {}, histogram(placed.reference, placed.log_p, models[i].name))));
    this.result.replaceChildren(
      el("div", { class: "row" }, captioned("as read", own), ...made),
      el("table", {}, el("caption", {}, "nats; rank: test data that are less probable; log p(x) of test data, and yours"),
        el("thead", {}, el("tr", {}, el("th", {}), ...["ELBO", "log p(x)", "rank", "among test data"].map((n) => el("th", { scope: "col" }, n)))),
        el("tbody", {}, ...rows)));
  }
}

/**
 * How values are distributed, and where one of them lies: bars over their range, and a line.
 * @param {Float32Array} values in order
 * @param {number} own
 * @param {string} name of the model
 */
function histogram(values, own, name) {
  const [low, high] = [Math.min(values[0], own), Math.max(values[values.length - 1], own)];
  const at = (/** @type {number} */ value) => (value - low) / (high - low || 1);
  const counts = new Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(at(value) * BINS))]++;
  const most = Math.max(...counts);
  const wide = WIDE / BINS;
  const bars = counts.map((count, i) =>
    svg("rect", { x: i * wide, y: TALL * (1 - count / most), width: wide - 0.5, height: (TALL * count) / most }));
  const x = 1 + at(own) * (WIDE - 2);
  return svg("svg", {
    viewBox: `0 0 ${WIDE} ${TALL}`, width: WIDE, height: TALL, class: "histogram", role: "img",
    "aria-label": `log p(x) of test data by ${name}: yours is ${fixed(own)} nats`,
  }, ...bars, svg("line", { x1: x, x2: x, y1: 0, y2: TALL }));
}
