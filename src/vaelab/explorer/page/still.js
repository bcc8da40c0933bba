// The backend of a page without a server: everything lies in the page itself.

import { build } from "vaelab/decoder.js";
import { Pictures, bytes, floats, ordered } from "vaelab/embedded.js";
import { product } from "vaelab/shapes.js";

/** @typedef {import("vaelab/types.js").Backend} Backend */
/** @typedef {import("vaelab/types.js").Pixels} Pixels */
/** @typedef {import("vaelab/types.js").Scene} Scene */
/** @typedef {import("vaelab/decoder.js").Layer} Layer */
/** @typedef {import("vaelab/embedded.js").Ref} Ref */
/** @typedef {import("vaelab/embedded.js").Sheets} Sheets */
/** @typedef {Ref & {low: number[], step: number[]}} Quantised  a value is low + step × number */
/**
 * What points of a lattice over a map decode to, its lowest row first.
 * @typedef {{side: number, box: number[], origin: Ref, basis: Ref, images: Sheets|Ref}} Lattice
 */
/**
 * @typedef {{codes: Quantised, scales: Quantised, origin: Ref, components: Ref,
 *   rate?: Quantised, distortion?: Quantised, layers?: Layer[], lattice?: Lattice}} Model
 */
/**
 * @typedef {{scene: Scene, total: number, labels: Ref|null, rows: Ref|null, models: Model[],
 *   images: Sheets|null, edges: {each: number, parts: Ref[]}|null}} Embedded
 */
/** @typedef {(z: Float32Array, count: number) => Float32Array|Promise<Float32Array>} Decoder */

const NONE = 65535; // the class of data without one
const PIECES = 64; // of a path, when its length is taken

/** Answers from what `vaelab.explorer.still` put into a page. @implements {Backend} */
export class Still {
  /** @param {Document} page @returns {Promise<Still>} */
  static async open(page) {
    const text = page.getElementById("vaelab-scene")?.textContent;
    if (!text) throw new Error("this page holds no data to show; write it again.");
    return new Still(page, JSON.parse(text));
  }

  /** @param {Document} page @param {Embedded} embedded */
  constructor(page, embedded) {
    this.page = page;
    this.embedded = embedded;
    this.scene = embedded.scene;
    this.each = product(this.scene.shape);
    /** @type {Map<Ref, Float32Array>} */
    this.numbers = new Map();
    /** @type {Map<Model, Decoder>} */
    this.decoders = new Map();
    /** @type {Uint16Array|null} */
    this.places = null;
    /** @type {Uint32Array|null} the row of each datum in its split, where not all are here */
    this.rows = embedded.rows && new Uint32Array(bytes(page, embedded.rows).buffer);
    this.pictures = embedded.images ? new Pictures(page, embedded.images, this.scene.shape) : null;
  }

  async labels() {
    const ref = this.embedded.labels;
    if (ref && !this.places) {
      const places = bytes(this.page, ref);
      const wide = ref.type === "uint16";
      this.places = wide
        ? new Uint16Array(places.buffer)
        : Uint16Array.from(places, (place) => (place === 255 ? NONE : place));
    }
    return this.places;
  }

  /** @param {number} index @param {string[]} axes */
  async view(index, axes) {
    const [info, codes] = [this.scene.models[index], this.loc(index)];
    const dim = info.latent_dim;
    const shown = Math.min(dim, 2);
    const places = axes.slice(0, shown)
      .map((axis) => Number(/^(?:z|pc)([1-9]\d*)$/.exec(axis)?.[1]) - 1);
    const principal = axes[0].startsWith("pc");
    const model = this.embedded.models[index];
    const frame = principal ? this.floats(model.components) : identity(dim);
    const origin = principal ? this.floats(model.origin) : new Float32Array(dim);
    if (!places.every((k) => k >= 0 && k < frame.length / dim)) {
      throw new Error(`this page has no axes ${axes.join(", ")}; choose others.`);
    }
    const basis = [0, 1].map((k) =>
      k < shown ? frame.slice(places[k] * dim, (places[k] + 1) * dim) : new Float32Array(dim)
    );
    const points = new Float32Array(2 * this.scene.count);
    for (let i = 0; i < this.scene.count; i++) {
      for (let k = 0; k < 2; k++) {
        let sum = k < dim ? 0 : 2 * ((i * 0.6180339887498949) % 1) - 1; // an even spread
        for (let d = 0; d < dim; d++) sum += (codes[i * dim + d] - origin[d]) * basis[k][d];
        points[2 * i + k] = sum;
      }
    }
    return { names: [axes[0], dim > 1 ? axes[1] : "spread"], origin, basis, points };
  }

  /** @param {number} index @param {string} name */
  async figure(index, name) {
    const { rate, distortion } = this.embedded.models[index];
    if (!rate || !distortion) throw new Error("this page holds no figures of each datum.");
    if (name === "elbo") {
      const [r, d] = [this.dequantised(rate), this.dequantised(distortion)];
      return r.map((value, i) => -(value + d[i]));
    }
    return this.dequantised(name === "rate" ? rate : distortion);
  }

  /** @returns {Promise<{ends: Uint32Array, each: number}>} */
  async edges() {
    const { edges } = this.embedded;
    if (!edges) throw new Error("this page holds no edges of a neighbour graph.");
    const parts = edges.parts.map((part) => ordered(bytes(this.page, part)));
    const numbers = parts.flatMap((part) => scattered(part));
    const { count } = this.scene;
    const ends = Uint32Array.from(numbers.flatMap((n) => [Math.floor(n / count), n % count]));
    return { ends, each: edges.each };
  }

  /** @param {number} index @param {Float32Array} z */
  async decode(index, z) {
    const means = await this.means(index, z);
    if (this.scene.shape.length === 1) return means;
    const [low, high] = this.scene.range;
    const out = new Uint8ClampedArray(means.length); // rounds, and keeps within 0 and 255
    for (let i = 0; i < out.length; i++) out[i] = (means[i] - low) * (255 / (high - low));
    return new Uint8Array(out.buffer);
  }

  /** @param {number} index @param {ArrayLike<number>} indices */
  async codes(index, indices) {
    const dim = this.scene.models[index].latent_dim;
    const scales = taken(this.dequantised(this.embedded.models[index].scales), indices, dim);
    return { loc: taken(this.loc(index), indices, dim), scale: scales.map(Math.exp) };
  }

  /** @param {ArrayLike<number>} indices */
  async images(indices) {
    const pictures = this.shown();
    const out = new Uint8Array(indices.length * this.each);
    for (let k = 0; k < indices.length; k++) out.set(await pictures.at(indices[k]), k * this.each);
    return out;
  }

  /** @param {number} index */
  async datum(index) {
    const { splits, classes, models } = this.scene;
    const first = splits[0].count;
    const row = this.rows ? this.rows[index] : index - (index < first ? 0 : first);
    const label = (await this.labels())?.[index] ?? NONE;
    return {
      split: splits[index < first ? 0 : 1].name,
      row,
      label: label === NONE ? null : classes[label].label,
      image: this.pictures ? await this.images([index]) : null,
      models: await Promise.all(models.map((_, model) => this.placed(model, index))),
    };
  }

  /** A datum's place in a model. @param {number} model @param {number} index */
  async placed(model, index) {
    const { loc, scale } = await this.codes(model, [index]);
    const { rate: r, distortion: d } = this.embedded.models[model];
    const rate = r ? this.dequantised(r)[index] : null;
    const distortion = d ? this.dequantised(d)[index] : null;
    const elbo = rate !== null && distortion !== null ? -(rate + distortion) : null;
    return { z: loc, scale, image: await this.decode(model, loc), elbo, rate, distortion };
  }

  /** @param {number} index @param {Float32Array} z @param {number} count */
  async nearest(index, z, count) {
    const [codes, dim] = [this.loc(index), z.length];
    const most = Math.min(count, this.scene.count);
    const indices = new Int32Array(most);
    const distances = new Float32Array(most).fill(Infinity);
    for (let i = 0; i < this.scene.count; i++) {
      let squared = 0;
      for (let d = 0; d < dim; d++) squared += (codes[i * dim + d] - z[d]) ** 2;
      if (squared >= distances[most - 1]) continue;
      let k = most - 1;
      for (; k > 0 && distances[k - 1] > squared; k--) {
        distances[k] = distances[k - 1];
        indices[k] = indices[k - 1];
      }
      distances[k] = squared;
      indices[k] = i;
    }
    return { indices, distances: distances.map(Math.sqrt) };
  }

  /**
   * @param {number} index @param {Float32Array} start @param {Float32Array} end
   * @param {number} steps @param {string} kind
   */
  async path(index, start, end, steps, kind) {
    if (kind !== "straight") {
      throw new Error("only a straight path here; 'vaelab explore' finds the shortest.");
    }
    const means = await this.means(index, line(start, end, PIECES + 1));
    let length = 0;
    for (let k = 0; k < PIECES; k++) {
      let squared = 0;
      for (let i = k * this.each; i < (k + 1) * this.each; i++) {
        squared += (means[i + this.each] - means[i]) ** 2;
      }
      length += Math.sqrt(squared);
    }
    return { z: line(start, end, steps), length, straight: length };
  }

  /** @param {ArrayLike<number>} indices */
  async mean(indices) {
    const pictures = this.shown();
    const sum = new Float64Array(this.each);
    for (const index of Uint32Array.from(indices).sort()) { // sheet after sheet
      added(sum, await pictures.at(index), 1);
    }
    return Uint8Array.from(sum, (value) => Math.round(value / indices.length));
  }

  /** @returns {Promise<never>} */
  async place() {
    throw new Error("pictures are encoded by 'vaelab explore'; this page only decodes.");
  }

  /** @returns {Promise<never>} */
  async gif() {
    throw new Error("GIFs are written by 'vaelab explore'; this page cannot.");
  }

  /** The pictures of data. */
  shown() {
    if (!this.pictures) throw new Error("this page holds no data themselves, only their codes.");
    return this.pictures;
  }

  /** Posterior means of all data. @param {number} index */
  loc(index) {
    return this.dequantised(this.embedded.models[index].codes);
  }

  /**
   * Means of p(x|z) at points, in the data's units.
   * @param {number} index @param {Float32Array} z
   */
  means(index, z) {
    const model = this.embedded.models[index];
    const dim = this.scene.models[index].latent_dim;
    const made = this.decoders.get(model) ?? this.decoder(model, dim);
    this.decoders.set(model, made);
    return made(z, z.length / dim);
  }

  /** @param {Model} model @param {number} dim @returns {Decoder} */
  decoder(model, dim) {
    const { layers, lattice } = model;
    if (layers) return build(layers, (ref) => floats(this.page, ref), dim);
    if (!lattice) throw new Error("this page holds no decoder of this model.");
    const read = this.knots(lattice);
    return (z, count) => this.blended(lattice, read, z, count, dim);
  }

  /**
   * Means between the points of a lattice: the four around a point, by how near they are.
   * @param {Lattice} lattice @param {(place: number) => Promise<ArrayLike<number>>} read
   * @param {Float32Array} z @param {number} count @param {number} dim
   */
  async blended(lattice, read, z, count, dim) {
    const [origin, basis] = [this.floats(lattice.origin), this.floats(lattice.basis)];
    const out = new Float32Array(count * this.each);
    for (let k = 0; k < count; k++) {
      const place = [0, 1].map((axis) => {
        let u = 0;
        for (let d = 0; d < dim; d++) u += (z[k * dim + d] - origin[d]) * basis[axis * dim + d];
        const share = (u - lattice.box[axis]) / (lattice.box[axis + 2] - lattice.box[axis]);
        return Math.min(1, Math.max(0, share)) * (lattice.side - 1);
      });
      const [column, row] = place.map((at) => Math.min(Math.floor(at), lattice.side - 2));
      const [right, up] = [place[0] - column, place[1] - row];
      for (const [dc, dr, weight] of [
        [0, 0, (1 - right) * (1 - up)],
        [1, 0, right * (1 - up)],
        [0, 1, (1 - right) * up],
        [1, 1, right * up],
      ]) {
        const knot = await read((row + dr) * lattice.side + column + dc);
        added(out.subarray(k * this.each), knot, weight);
      }
    }
    return out;
  }

  /**
   * What reads the means at the points of a lattice, by their place.
   * @param {Lattice} lattice
   * @returns {(place: number) => Promise<ArrayLike<number>>}
   */
  knots({ images }) {
    const { shape, range } = this.scene;
    if (!("sheets" in images)) {
      const values = this.floats(images);
      return async (place) => values.subarray(place * this.each, (place + 1) * this.each);
    }
    const pictures = new Pictures(this.page, images, shape);
    const factor = (range[1] - range[0]) / 255;
    const mean = (/** @type {number} */ byte) => range[0] + factor * byte;
    return async (place) => Float32Array.from(await pictures.at(place), mean);
  }

  /** Numbers of the page that are needed often. @param {Ref} ref */
  floats(ref) {
    const known = this.numbers.get(ref) ?? floats(this.page, ref);
    this.numbers.set(ref, known);
    return known;
  }

  /** @param {Quantised} ref */
  dequantised(ref) {
    const known = this.numbers.get(ref);
    if (known) return known;
    const [numbers, columns] = [floats(this.page, ref), ref.low.length];
    for (let i = 0; i < numbers.length; i++) {
      numbers[i] = ref.low[i % columns] + ref.step[i % columns] * numbers[i];
    }
    this.numbers.set(ref, numbers);
    return numbers;
  }
}

/**
 * Adds one array to another, times a weight.
 * @param {Float32Array|Float64Array} sum @param {ArrayLike<number>} values @param {number} weight
 */
function added(sum, values, weight) {
  for (let i = 0; i < values.length; i++) sum[i] += weight * values[i];
}

/** @param {Float32Array} values @param {ArrayLike<number>} rows @param {number} columns */
function taken(values, rows, columns) {
  const out = new Float32Array(rows.length * columns);
  for (let k = 0; k < rows.length; k++) {
    out.set(values.subarray(rows[k] * columns, (rows[k] + 1) * columns), k * columns);
  }
  return out;
}

/**
 * Points on the straight line.
 * @param {Float32Array} start @param {Float32Array} end @param {number} steps
 */
function line(start, end, steps) {
  const out = new Float32Array(steps * start.length);
  for (let k = 0; k < steps; k++) {
    for (let d = 0; d < start.length; d++) {
      out[k * start.length + d] = start[d] + (k / (steps - 1)) * (end[d] - start[d]);
    }
  }
  return out;
}

/**
 * All numbers in another order, always the same: of any first ones, some are from everywhere.
 * @param {number[]} numbers
 */
function scattered(numbers) {
  const size = numbers.length;
  let step = Math.max(1, Math.round(0.6180339887498949 * size));
  while (common(step, size) > 1) step++;
  return numbers.map((_, k) => numbers[(k * step) % size]);
}

/** The greatest common divisor. @param {number} a @param {number} b @returns {number} */
function common(a, b) {
  return b ? common(b, a % b) : a;
}

/** The unit vectors, one after another. @param {number} dim */
function identity(dim) {
  const out = new Float32Array(dim * dim);
  for (let d = 0; d < dim; d++) out[d * dim + d] = 1;
  return out;
}
