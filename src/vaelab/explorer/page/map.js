// One latent map: points that can be panned, zoomed, pointed at and circled.

import { el, svg } from "vaelab/dom.js";
import { apart, half, tick, ticks } from "vaelab/labels.js";
import { bounds, Nearby } from "vaelab/nearby.js";
import { Points } from "vaelab/points.js";

/** @typedef {[number, number]} Place */
/**
 * What the map tells: where the pointer is, with the datum under it or −1; a click; that a mark is
 * dragged; a lasso's corners; that another part of the plane is shown.
 * @typedef {{move: (u: Place, datum: number) => void, click: (u: Place) => void,
 *   drag: (mark: string, u: Place) => void, lasso: (corners: number[][]) => void,
 *   view: () => void}} Listener
 */

const REACH = 7; // pixels from the pointer within which a datum is meant
const CLICK = 4; // pixels that a pressed pointer may move and still click
const GRIP = 9; // pixels from the middle of a mark at which it is taken hold of
const DRAGGED = ["end", "start"]; // marks that can be dragged
const BESIDE = 9; // pixels to the right of a mark and above it where its text begins
const FAINT = 0.25; // how opaque a line between neighbours is
const STEP = 0.025; // of the map's width, by an arrow key
const KEYS = /** @type {Record<string, Place>} */ ({
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
});

/** Lines: the points they join, a colour of three bytes, and what is said of them. */
/** @typedef {{ends: Uint32Array, grey: number[], told: string}} Lines */
/** @type {Lines} */
const NONE = { ends: new Uint32Array(0), grey: [0, 0, 0], told: "" };

/** A map of one model's latent space; `element` goes into the page. */
export class LatentMap {
  /**
   * @param {string} name of the model
   * @param {Listener} listener
   */
  constructor(name, listener) {
    this.listener = listener;
    this.under = el("canvas", { class: "layer", "aria-hidden": "true" });
    this.canvas = el("canvas", { class: "layer", "aria-hidden": "true" });
    this.over = svg("svg", { class: "layer", "aria-hidden": "true" });
    this.element = el("div", {
      class: "map", role: "application", tabindex: "0",
      "aria-label": `Latent map of ${name}: arrow keys move, Enter picks, plus and minus zoom`,
    }, this.under, this.canvas, this.over);
    this.painter = new Points(this.canvas);
    /** @type {Float32Array} */
    this.points = new Float32Array(0);
    this.nearby = new Nearby(this.points);
    /** @type {(index: number) => boolean} */
    this.shown = () => true;
    /** @type {{text: string, at: Place}[]} */
    this.names = [];
    this.circles = 0;
    this.lines = NONE;
    /** @type {Place} */
    this.centre = [0, 0];
    this.scale = 40; // pixels of the page for a unit
    this.width = this.height = 1;
    /** @type {Map<string, {class: string, at: Place[], text?: string, closed?: boolean}>} */
    this.marks = new Map();
    /** @type {(() => void)|null} */
    this.underlay = null;
    /** @type {Place} */
    this.cursor = [0, 0];
    this.lassoing = false;
    this.due = false;
    this.chosen = false; // whether the person chose what is shown
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  /** @param {Float32Array} points x, y, x, y, ... */
  place(points) {
    this.points = points;
    this.nearby = new Nearby(points);
    this.painter.place(points);
    if (!this.chosen) this.fit();
  }

  /** @param {Uint8Array} colours */
  paint(colours) {
    this.painter.paint(colours);
    this.redraw();
  }

  /** Draws lines below the points, or none. @param {Lines|null} lines */
  join(lines) {
    this.lines = lines ?? NONE;
    const { ends, grey } = this.lines;
    this.painter.join(ends, [...grey.map((value) => value / 255), FAINT]);
    this.redraw();
  }

  /** Shows all points but those that lie far off, with a margin. */
  fit() {
    const [left, bottom, right, top] = shell(core(this.points), this.nearby.box);
    this.centre = [(left + right) / 2, (bottom + top) / 2];
    const [wide, high] = [right - left || 1, top - bottom || 1];
    this.scale = 0.9 * Math.min(this.width / wide, this.height / high);
    this.chosen = false;
    this.moved();
  }

  /** @param {Place} centre @param {number} scale */
  show(centre, scale) {
    this.centre = centre;
    this.scale = Math.min(1e7, Math.max(1e-5, scale));
    this.chosen = true;
    this.moved();
  }

  /** What is shown: left, bottom, right, top. @returns {[number, number, number, number]} */
  box() {
    const [dx, dy] = [this.width / 2 / this.scale, this.height / 2 / this.scale];
    const [x, y] = this.centre;
    return [x - dx, y - dy, x + dx, y + dy];
  }

  /** @param {Place} u @returns {Place} pixels from the upper left corner */
  pixel(u) {
    const [x, y] = this.centre;
    return [
      this.width / 2 + (u[0] - x) * this.scale,
      this.height / 2 - (u[1] - y) * this.scale,
    ];
  }

  /** @param {number} x @param {number} y @returns {Place} */
  plane(x, y) {
    return [
      this.centre[0] + (x - this.width / 2) / this.scale,
      this.centre[1] - (y - this.height / 2) / this.scale,
    ];
  }

  /**
   * Puts a mark on the map or takes it away: one place is a ring, several are a line.
   * @param {string} name
   * @param {Place[]|null} at
   * @param {{text?: string, closed?: boolean}} [how]
   */
  mark(name, at, how = {}) {
    const written = how.text ?? this.marks.get(name)?.text;
    if (at === null) this.marks.delete(name);
    else this.marks.set(name, { class: name.replace(/\d+$/, ""), at, ...how });
    if (written) return this.drawOver(); // names make room
    this.over.querySelector(`#${this.id(name)}`)?.remove();
    const mark = this.marks.get(name);
    if (mark) this.over.append(this.drawn(name, mark));
  }

  /** @param {string} name */
  id(name) {
    this.over.id ||= `map-${Math.random().toString(36).slice(2)}`;
    return `${this.over.id}-${name}`;
  }

  /** @param {string} name @param {{class: string, at: Place[], text?: string, closed?: boolean}} mark */
  drawn(name, mark) {
    const group = svg("g", { id: this.id(name), class: `mark ${mark.class}` });
    const places = mark.at.map((u) => this.pixel(u));
    const [[x, y]] = places;
    if (places.length > 1) {
      const points = places.map((place) => place.join()).join(" ");
      const shape = mark.closed ? "polygon" : "polyline";
      group.append(svg(shape, { points, class: "halo" }), svg(shape, { points }));
    } else {
      group.append(svg("circle", { cx: x, cy: y, r: 6, class: "halo" }));
      group.append(svg("circle", { cx: x, cy: y, r: 6 }));
      if (mark.class === "probe") {
        group.append(svg("path", { d: `M${x - 14},${y}h9m10,0h9M${x},${y - 14}v9m0,10v9` }));
      }
    }
    if (mark.text) {
      const at = { x: x + BESIDE, y: y - BESIDE };
      group.append(svg("text", { ...at, class: "halo" }, mark.text), svg("text", at, mark.text));
    }
    return group;
  }

  resize() {
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    if (!width || !height) return;
    [this.width, this.height] = [width, height];
    for (const canvas of [this.canvas, this.under]) {
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(height * devicePixelRatio);
    }
    this.over.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (this.chosen) this.moved();
    else this.fit();
  }

  moved() {
    this.redraw();
    this.listener.view();
  }

  /** Draws everything again, once, before the next frame. */
  redraw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.drawPoints();
      this.underlay?.();
      this.drawOver();
    });
  }

  drawPoints() {
    const ratio = devicePixelRatio;
    const [left, bottom, right, top] = bounds(this.points);
    const home = 0.9 * Math.min(this.width / (right - left), this.height / (top - bottom));
    const crowd = Math.sqrt((this.width * this.height) / Math.max(1, this.points.length / 2));
    const near = Math.min(4, Math.max(1, (this.scale / home) ** 0.5));
    const size = Math.min(9, Math.max(2.2, 1.2 * crowd) * near) * ratio;
    const scale = /** @type {Place} */ ([
      (2 * this.scale) / this.width, (2 * this.scale) / this.height,
    ]);
    this.painter.draw(this.centre, scale, size, crowd < 2 && near < 1.5 ? 0.6 : 0.85);
  }

  /** Ticks, the prior's circles, the classes' names and all marks. */
  drawOver() {
    this.over.replaceChildren();
    const [left, bottom, right, top] = this.box();
    for (const x of ticks(left, right)) {
      const [at] = this.pixel([x, 0]);
      if (at > 24 && at < this.width - 14) this.text(at, this.height - 5, tick(x), "tick middle");
    }
    for (const y of ticks(bottom, top)) {
      const at = this.pixel([0, y])[1];
      if (at < this.height - 18 && at > 8) this.text(5, at + 4, tick(y), "tick");
    }
    for (let r = 1; r <= this.circles; r++) {
      const [cx, cy] = this.pixel([0, 0]);
      this.over.append(svg("circle", { cx, cy, r: r * this.scale, class: "prior" }));
    }
    this.drawNames();
    for (const [name, mark] of this.marks) this.over.append(this.drawn(name, mark));
  }

  /** The classes' names, beside each other and beside what is written at marks. */
  drawNames() {
    const marks = [...this.marks.values()].filter(({ text }) => text);
    const halves = [...marks, ...this.names].map(({ text = "" }) => half(text));
    const fixed = marks.map(({ at }, i) => {
      const [x, y] = this.pixel(at[0]);
      return /** @type {Place} */ ([x + BESIDE + halves[i][0], y - BESIDE - 4]);
    });
    const homes = this.names.map(({ at }) => this.pixel(at));
    const places = apart([...fixed, ...homes], halves, fixed.length);
    places.slice(fixed.length).forEach((at, i) => {
      if (at) this.text(at[0], at[1] + 5, this.names[i].text, "name middle");
    });
  }

  /** @param {number} x @param {number} y @param {string} text @param {string} kind */
  text(x, y, text, kind) {
    this.over.append(svg("text", { x, y, class: `halo ${kind}` }, text));
    this.over.append(svg("text", { x, y, class: kind }, text));
  }

  /** The datum at a place of the plane, or −1. @param {Place} u */
  datum(u) {
    return this.nearby.find(u[0], u[1], REACH / this.scale, this.shown);
  }

  /** @param {number} x @param {number} y @param {number} factor */
  zoom(x, y, factor) {
    const held = this.plane(x, y);
    const scale = Math.min(1e7, Math.max(1e-5, this.scale * factor));
    const share = this.scale / scale;
    this.show(
      [held[0] + (this.centre[0] - held[0]) * share, held[1] + (this.centre[1] - held[1]) * share],
      scale
    );
  }

  listen() {
    /** @type {Map<number, Place>} */
    const held = new Map();
    let [travelled, circling] = [0, false];
    /** @type {number[][]} */
    let corners = [];
    /** @type {string|undefined} */
    let grabbed;
    const at = (/** @type {PointerEvent|WheelEvent} */ event) => {
      const box = this.element.getBoundingClientRect();
      return /** @type {Place} */ ([event.clientX - box.left, event.clientY - box.top]);
    };
    this.element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.element.setPointerCapture(event.pointerId);
      held.set(event.pointerId, at(event));
      [travelled, circling] = [0, this.lassoing || event.shiftKey];
      corners = [this.plane(...at(event))];
      grabbed = DRAGGED.find((name) => this.touches(name, at(event)));
    });
    this.element.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      const before = held.get(event.pointerId);
      if (!before) return this.point(this.plane(x, y));
      travelled += Math.hypot(x - before[0], y - before[1]);
      if (travelled < CLICK) return;
      held.set(event.pointerId, [x, y]);
      if (grabbed) this.listener.drag(grabbed, this.plane(x, y));
      else if (circling) {
        corners.push(this.plane(x, y));
        this.mark("lasso", /** @type {Place[]} */ (corners), { closed: true });
      } else if (held.size > 1) this.pinch(held, event.pointerId, before);
      else this.pan(x - before[0], y - before[1]);
    });
    const release = (/** @type {PointerEvent} */ event) => {
      if (!held.delete(event.pointerId) || event.type === "pointercancel") return;
      if (travelled < CLICK) this.pick(this.plane(...at(event)));
      else if (circling && !grabbed && corners.length > 2) this.listener.lasso(corners);
    };
    this.element.addEventListener("pointerup", release);
    this.element.addEventListener("pointercancel", release);
    this.element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(...at(event), Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
    }, { passive: false });
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  /** Whether a pixel is on a mark. @param {string} name @param {Place} place */
  touches(name, place) {
    const mark = this.marks.get(name);
    if (!mark) return false;
    const [x, y] = this.pixel(mark.at[0]);
    return Math.hypot(x - place[0], y - place[1]) < GRIP;
  }

  /** @param {number} dx @param {number} dy pixels */
  pan(dx, dy) {
    const [x, y] = this.centre;
    this.show([x - dx / this.scale, y + dy / this.scale], this.scale);
  }

  /** @param {Map<number, Place>} held @param {number} moved @param {Place} before */
  pinch(held, moved, before) {
    const now = held.get(moved) ?? before;
    const other = [...held].find(([id]) => id !== moved)?.[1] ?? before;
    const [was, is] = [before, now].map(([x, y]) => Math.hypot(x - other[0], y - other[1]));
    if (was > 0) this.zoom(...other, is / was);
  }

  /** @param {Place} u */
  point(u) {
    this.cursor = u;
    this.listener.move(u, this.datum(u));
  }

  /** @param {Place} u */
  pick(u) {
    this.point(u);
    this.listener.click(u);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [x, y] = this.pixel(this.cursor);
    const step = KEYS[event.key];
    if (step) {
      const by = ((event.shiftKey ? 5 : 1) * STEP * this.width) / this.scale;
      const [px, py] = this.pixel(this.cursor);
      const lost = px < 0 || py < 0 || px > this.width || py > this.height;
      const from = lost ? this.centre : this.cursor;
      this.point([from[0] + step[0] * by, from[1] + step[1] * by]);
    } else if (event.key === "Enter" || event.key === " ") this.pick(this.cursor);
    else if (event.key === "+" || event.key === "=") this.zoom(x, y, 1.3);
    else if (event.key === "-") this.zoom(x, y, 1 / 1.3);
    else if (event.key === "0" || event.key === "Home") this.fit();
    else return;
    event.preventDefault();
  }
}

/**
 * A box that is widened to hold all points, by a third of its size at most at each side: a few
 * points that are farther do not make all others small.
 * @param {[number, number, number, number]} core @param {[number, number, number, number]} all
 * @returns {[number, number, number, number]}
 */
function shell([left, bottom, right, top], all) {
  const [dx, dy] = [(right - left) / 3, (top - bottom) / 3];
  return [
    Math.max(left - dx, all[0]), Math.max(bottom - dy, all[1]),
    Math.min(right + dx, all[2]), Math.min(top + dy, all[3]),
  ];
}

/** Where nearly all points lie: the box without the farthest 0.1 % at each side. */
/** @param {Float32Array} points @returns {[number, number, number, number]} */
function core(points) {
  const step = Math.max(1, Math.floor(points.length / 2 / 20_000));
  const [xs, ys] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  for (let i = 0; i < points.length / 2; i += step) {
    xs.push(points[2 * i]);
    ys.push(points[2 * i + 1]);
  }
  const ends = (/** @type {number[]} */ values) => {
    values.sort((a, b) => a - b);
    const out = Math.floor(values.length * 0.001);
    return [values[out] ?? -1, values[values.length - 1 - out] ?? 1];
  };
  const [[left, right], [bottom, top]] = [ends(xs), ends(ys)];
  return [left, bottom, right, top];
}
