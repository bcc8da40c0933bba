// Lines between data that are neighbours in the data space, below the points of each map.

import { parsed } from "vaelab/colours.js";
import { el } from "vaelab/dom.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/** @typedef {import("vaelab/map.js").Place} Place */

const MOST = 20_000; // lines on a map at once

/** The neighbour graph of the data, asked for when it is first shown. */
export class Edges {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.on = false;
    /** @type {Uint32Array|null} two ends an edge, the strongest first */
    this.ends = null;
    this.each = 0; // edges of a datum where the page does not carry all, else 0
    /** @type {(datum: number) => number[]} */
    this.around = () => [];
    this.datum = -1; // whose edges are all drawn
    /** @type {string[]} what each map showed when its lines were chosen */
    this.seen = [];
    this.note = el("p", { class: "soft edges", "aria-live": "polite", hidden: true });
    this.near = el("p", { class: "soft", hidden: true });
  }

  /** @param {boolean} on */
  async toggle(on) {
    this.on = on;
    if (on && !this.ends) await this.load();
    this.follow(true);
    this.point(this.datum);
  }

  async load() {
    this.tell("Computing the neighbour graph …");
    try {
      const { ends, each } = await this.explorer.backend.edges();
      [this.ends, this.each] = [ends, each];
      this.around = adjacent(ends, this.explorer.scene.count);
    } finally {
      this.tell("");
    }
  }

  /** Chooses the lines of each map for what it shows. @param {boolean} again if it shows the same */
  follow(again) {
    const { models, root } = this.explorer;
    const on = this.on && this.ends;
    const grey = parsed(getComputedStyle(root).getPropertyValue("--soft").trim());
    const said = models.map(({ name, map, view }, index) => {
      const box = map.box();
      if (!on || (!again && this.seen[index] === box.join())) return map.lines.told;
      this.seen[index] = box.join();
      const { lines, count } = chosen(on, view.points, box, map.shown, MOST);
      const told = `${name} ${spelt(lines.length / 2)} of ${spelt(count)}`;
      map.join({ ends: lines, grey, told });
      return told;
    });
    if (!on) return again && this.clear();
    const carried = this.each ? ` This page carries the ${this.each} strongest of each datum.` : "";
    this.tell(`Lines join data that are neighbours in the data space, the strongest of those in ` +
      `view: ${said.join(", ")}. Point at a datum for all of its own.${carried}`);
  }

  clear() {
    this.tell("");
    for (const { map } of this.explorer.models) map.join(null);
  }

  /** Draws all edges of a datum, whatever else is drawn. @param {number} datum −1 for none */
  point(datum) {
    this.datum = datum;
    const others = this.on && datum >= 0 ? this.around(datum) : [];
    for (const { map, view } of this.explorer.models) {
      const at = (/** @type {number} */ i) =>
        /** @type {Place} */ ([view.points[2 * i], view.points[2 * i + 1]]);
      const star = others.flatMap((other) => [at(datum), at(other)]); // there, and back
      map.mark("edges", star.length ? star : null);
    }
    this.near.hidden = !others.length;
    this.near.textContent = `${others.length} neighbours in the data space`;
  }

  /** @param {string} text */
  tell(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }
}

/** @param {number} count */
function spelt(count) {
  return count.toLocaleString("en");
}

/**
 * The strongest edges that touch what is in view, and how many do; both ends must be shown.
 * @param {Uint32Array} ends
 * @param {Float32Array} points
 * @param {[number, number, number, number]} box left, bottom, right, top
 * @param {(datum: number) => boolean} shown
 * @param {number} most
 */
export function chosen(ends, points, [left, bottom, right, top], shown, most) {
  const flags = new Uint8Array(points.length / 2); // 1 for shown, 2 for in view
  for (let i = 0; i < flags.length; i++) {
    if (!shown(i)) continue;
    const [x, y] = [points[2 * i], points[2 * i + 1]];
    flags[i] = x >= left && x <= right && y >= bottom && y <= top ? 3 : 1;
  }
  const lines = new Uint32Array(2 * most);
  let count = 0;
  for (let e = 0; e < ends.length; e += 2) {
    const [a, b] = [flags[ends[e]], flags[ends[e + 1]]];
    if (!(a & b & 1) || !((a | b) & 2)) continue;
    if (count < most) lines.set([ends[e], ends[e + 1]], 2 * count);
    count++;
  }
  return { lines: lines.subarray(0, 2 * Math.min(most, count)), count };
}

/**
 * What gives the data that a datum has edges to, the strongest first.
 * @param {Uint32Array} ends
 * @param {number} count of data
 */
export function adjacent(ends, count) {
  const first = new Uint32Array(count + 1);
  for (const end of ends) first[end + 1]++;
  for (let i = 0; i < count; i++) first[i + 1] += first[i];
  const next = first.slice();
  const others = new Uint32Array(ends.length);
  for (let e = 0; e < ends.length; e++) others[next[ends[e]]++] = ends[e ^ 1];
  return (/** @type {number} */ datum) => Array.from(others.subarray(first[datum], first[datum + 1]));
}
