// The shapes of arrays.

/**
 * How many numbers an array of a shape has.
 * @param {number[]} shape
 */
export function product(shape) {
  return shape.reduce((a, b) => a * b, 1);
}
