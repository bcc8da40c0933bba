// Data on canvases: images pixel by pixel, vectors as a curve; strips and grids of them.

import { el } from "vaelab/dom.js";
import { product } from "vaelab/shapes.js";

/** @typedef {import("vaelab/types.js").Pixels} Pixels */

/**
 * Width and height of a datum when it is drawn.
 * @param {number[]} shape [C, H, W], or [F] of a vector
 * @returns {[number, number]}
 */
export function extent(shape) {
  return shape.length === 3 ? [shape[2], shape[1]] : [96, 64];
}

/**
 * A canvas that holds `columns` × `rows` data, and a name for those who do not see it.
 * @param {number[]} shape
 * @param {string} name
 * @param {number} [columns]
 * @param {number} [rows]
 */
export function canvas(shape, name, columns = 1, rows = 1) {
  const [width, height] = extent(shape);
  return el("canvas", {
    role: "img",
    "aria-label": name,
    class: "pixels",
    width: width * columns,
    height: height * rows,
  });
}

/**
 * Draws datum after datum, row by row.
 * @param {HTMLCanvasElement} target made by `canvas`
 * @param {number[]} shape
 * @param {Pixels} values one datum or several, one after another
 * @param {number} [columns]
 */
export function draw(target, shape, values, columns = 1) {
  const context = target.getContext("2d");
  if (!context) return;
  const [width, height] = extent(shape);
  const each = product(shape);
  const [low, high] = shape.length === 3 ? [0, 0] : range(values);
  for (let k = 0; k * each < values.length; k++) {
    const [x, y] = [(k % columns) * width, Math.floor(k / columns) * height];
    const datum = values.subarray(k * each, (k + 1) * each);
    if (shape.length === 3) context.putImageData(image(shape, datum), x, y);
    else curve(context, datum, low, high, x, y, width, height);
  }
}

/**
 * A datum as what a canvas holds: grey where there is one channel, colour where there are three.
 * @param {number[]} shape
 * @param {Pixels} values bytes
 */
export function image(shape, values) {
  const [channels, height, width] = shape;
  const area = width * height;
  const made = new ImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) made.data[4 * i + c] = values[channels >= 3 ? c * area + i : i];
    made.data[4 * i + 3] = 255;
  }
  return made;
}

/** @param {Pixels} values @returns {[number, number]} */
function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return high > low ? [low, high] : [low - 1, high + 1];
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Pixels} values
 * @param {number} low @param {number} high
 * @param {number} x @param {number} y @param {number} width @param {number} height
 */
function curve(context, values, low, high, x, y, width, height) {
  context.clearRect(x, y, width, height);
  context.strokeStyle = "#7d8590";
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  context.strokeStyle = "#0072b2";
  context.beginPath();
  const step = (width - 8) / Math.max(1, values.length - 1);
  values.forEach((value, i) => {
    const share = (value - low) / (high - low);
    context.lineTo(x + 4 + i * step, y + height - 4 - share * (height - 8));
  });
  context.stroke();
}

/**
 * The picture of a canvas as a PNG file, enlarged by a whole factor so that it can be shown.
 * @param {HTMLCanvasElement} source
 * @param {number} [factor]
 * @returns {Promise<Blob>}
 */
export function png(source, factor = 1) {
  const target = el("canvas", { width: source.width * factor, height: source.height * factor });
  const context = target.getContext("2d");
  if (context) {
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, target.width, target.height);
  }
  return new Promise((resolve, reject) =>
    target.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture was made"))))
  );
}
