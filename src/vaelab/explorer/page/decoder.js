// A decoder's forward pass in plain JavaScript, layer by layer, from weights that lie in the page.

import { product } from "vaelab/shapes.js";

/** @typedef {import("vaelab/embedded.js").Ref} Ref */
/**
 * One layer; which of the further fields it has depends on what it does.
 * @typedef {{do: string, values?: Ref, weight?: Ref, bias?: Ref, activation?: string,
 *   shape?: number[], size?: number}} Layer
 */
/**
 * A layer made ready: the shape of its output, and how it is computed. The output is overwritten
 * at the next call.
 * @typedef {{shape: number[], run: (x: Float32Array) => Float32Array}} Step
 */
/** @typedef {(ref: Ref|undefined) => Float32Array} Blobs */

/**
 * The mean of p(x|z) as a function of latent points.
 * @param {Layer[]} layers from the latent point on
 * @param {Blobs} blobs gives an array of the page as float32
 * @param {number} dim D, the number of latent dimensions
 * @returns {(z: Float32Array, count: number) => Float32Array} from `count` points, one after
 *   another, to as many data
 */
export function build(layers, blobs, dim) {
  /** @type {Step[]} */
  const steps = [];
  let shape = [dim];
  for (const layer of layers) {
    const make = MAKERS[layer.do];
    if (!make) throw new Error(`the page has a layer "${layer.do}", which it cannot compute.`);
    const step = make(layer, shape, blobs);
    steps.push(step);
    shape = step.shape;
  }
  const each = product(shape);
  return (z, count) => {
    const out = new Float32Array(count * each);
    for (let k = 0; k < count; k++) {
      let x = z.subarray(k * dim, (k + 1) * dim);
      for (const { run } of steps) x = run(x);
      out.set(x, k * each);
    }
    return out;
  };
}

/**
 * How each kind of layer is made ready.
 * @type {Record<string, (layer: Layer, shape: number[], blobs: Blobs) => Step>}
 */
const MAKERS = {
  dense,
  mix,
  join,
  image,
  view: (layer, shape) => ({ shape: layer.shape ?? shape, run: (x) => x }),
  add: (layer, shape, blobs) => pairwise(shape, blobs(layer.values), (a, b) => a + b),
  times: (layer, shape, blobs) => pairwise(shape, blobs(layer.values), (a, b) => a * b),
  activate: (layer, shape) => {
    const f = activation(layer);
    return { shape, run: (x) => mapped(x, f) };
  },
};

/** @type {Record<string, (x: number) => number>} */
const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

/** @param {Layer} layer */
function activation(layer) {
  const found = ACTIVATIONS[layer.activation ?? ""];
  if (!found) throw new Error(`the page has no activation "${layer.activation}".`);
  return found;
}

/**
 * The error function, to within 1.5e-7: Abramowitz & Stegun (1964), formula 7.1.26.
 * @param {number} x
 */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = 1.421413741 + t * (-1.453152027 + t * 1.061405429);
  const series = t * (0.254829592 + t * (-0.284496736 + t * tail));
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

/** Changes an array in place. @param {Float32Array} x @param {(x: number) => number} f */
function mapped(x, f) {
  for (let i = 0; i < x.length; i++) x[i] = f(x[i]);
  return x;
}

/**
 * Joins x with constants, of its shape or a single one.
 * @param {number[]} shape @param {Float32Array} values @param {(a: number, b: number) => number} f
 * @returns {Step}
 */
function pairwise(shape, values, f) {
  const out = new Float32Array(product(shape));
  const stride = values.length > 1 ? 1 : 0;
  const run = (/** @type {Float32Array} */ x) => {
    for (let i = 0; i < out.length; i++) out[i] = f(x[i], values[i * stride]);
    return out;
  };
  return { shape, run };
}

/**
 * Matrix products along the last axis: out[r] = weight · x[r] + bias for each row r.
 * @param {Float32Array} x @param {Float32Array} weight @param {Float32Array} bias
 * @param {Float32Array} out
 */
function products(x, weight, bias, out) {
  const [outer, inner] = [bias.length, weight.length / bias.length];
  const even = inner - (inner % 4);
  for (let from = 0, to = 0; to < out.length; from += inner) {
    for (let o = 0, w = 0; o < outer; o++, to++) {
      let [a, b, c, d] = [bias[o], 0, 0, 0];
      let i = from;
      for (const end = from + even; i < end; i += 4, w += 4) {
        a += x[i] * weight[w];
        b += x[i + 1] * weight[w + 1];
        c += x[i + 2] * weight[w + 2];
        d += x[i + 3] * weight[w + 3];
      }
      for (const end = from + inner; i < end; i++, w++) a += x[i] * weight[w];
      out[to] = a + b + (c + d);
    }
  }
}

/** @param {Layer} layer @param {number[]} shape @param {Blobs} blobs @returns {Step} */
function dense(layer, shape, blobs) {
  const [weight, bias] = [blobs(layer.weight), blobs(layer.bias)];
  const rows = (product(shape) * bias.length) / weight.length;
  const out = new Float32Array(rows * bias.length);
  const run = (/** @type {Float32Array} */ x) => {
    products(x, weight, bias, out);
    return out;
  };
  return { shape: [...shape.slice(0, -1), bias.length], run };
}

/**
 * x + activation(3 × 3 convolution of x), zeros around it; x is rows, columns, channels. Each
 * place's neighbourhood is laid out in a row, so that the convolution is a matrix product.
 * @param {Layer} layer @param {number[]} shape @param {Blobs} blobs
 * @returns {Step}
 */
function mix(layer, shape, blobs) {
  const [rows, columns, channels] = shape;
  const [weight, bias, f] = [blobs(layer.weight), blobs(layer.bias), activation(layer)];
  const patches = new Float32Array(rows * columns * 9 * channels);
  const out = new Float32Array(rows * columns * channels);
  const run = (/** @type {Float32Array} */ x) => {
    let to = 0;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        for (let dr = -1; dr <= 1; dr++) {
          for (let dc = -1; dc <= 1; dc++, to += channels) {
            const [row, column] = [r + dr, c + dc];
            if (row < 0 || row >= rows || column < 0 || column >= columns) continue; // stays zero
            const from = (row * columns + column) * channels;
            for (let i = 0; i < channels; i++) patches[to + i] = x[from + i];
          }
        }
      }
    }
    products(patches, weight, bias, out);
    for (let i = 0; i < out.length; i++) out[i] = x[i] + f(out[i]);
    return out;
  };
  return { shape, run };
}

/**
 * Lays each place's features out as a square patch of places.
 * @param {Layer} layer @param {number[]} shape
 * @returns {Step}
 */
function join(layer, shape) {
  const [rows, columns, features] = shape;
  const size = layer.size ?? 1;
  const channels = features / (size * size);
  const out = new Float32Array(rows * columns * features);
  const line = size * channels;
  const run = (/** @type {Float32Array} */ x) => {
    let from = 0;
    for (let place = 0; place < rows * columns; place++) {
      const [r, c] = [Math.floor(place / columns), place % columns];
      for (let s = 0; s < size; s++) {
        const to = ((r * size + s) * columns + c) * line;
        for (let i = 0; i < line; i++) out[to + i] = x[from++];
      }
    }
    return out;
  };
  return { shape: [rows * size, columns * size, channels], run };
}

/**
 * Crops rows, columns, channels to an image of channels, height, width.
 * @param {Layer} layer @param {number[]} shape
 * @returns {Step}
 */
function image(layer, shape) {
  const columns = shape[1];
  const [channels, height, width] = layer.shape ?? [];
  const out = new Float32Array(channels * height * width);
  const run = (/** @type {Float32Array} */ x) => {
    let to = 0;
    for (let c = 0; c < channels; c++) {
      for (let h = 0; h < height; h++) {
        for (let w = 0; w < width; w++) out[to++] = x[(h * columns + w) * channels + c];
      }
    }
    return out;
  };
  return { shape: [channels, height, width], run };
}
