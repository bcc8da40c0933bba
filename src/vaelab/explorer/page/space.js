// Between latent points z and places u on a map: u_k = ⟨z − origin, basis_k⟩.

/** @typedef {import("vaelab/types.js").View} View */

/**
 * @param {View} view
 * @param {ArrayLike<number>} z
 * @returns {[number, number]}
 */
export function project(view, z) {
  const u = view.basis.map((axis) => {
    let sum = 0;
    for (let i = 0; i < axis.length; i++) sum += (z[i] - view.origin[i]) * axis[i];
    return sum;
  });
  return [u[0], u[1] ?? 0];
}

/**
 * The point at place `u` that has the rest, what the map does not show, in common with `z`.
 * @param {View} view
 * @param {number[]} u
 * @param {ArrayLike<number>} z
 */
export function lift(view, u, z) {
  const was = project(view, z);
  const point = Float32Array.from(z);
  view.basis.forEach((axis, k) => {
    for (let i = 0; i < axis.length; i++) point[i] += (u[k] - was[k]) * axis[i];
  });
  return point;
}

/**
 * The ellipse of N(z, scale²) on the map, `times` standard deviations wide.
 * @param {View} view
 * @param {ArrayLike<number>} z
 * @param {ArrayLike<number>} scale
 * @param {number} times
 * @returns {[number, number][]}
 */
export function ellipse(view, z, scale, times) {
  const [x, y] = project(view, z);
  const [a, b] = [view.basis[0], view.basis[1]];
  let [xx, xy, yy] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    xx += (a[i] * scale[i]) ** 2;
    xy += a[i] * b[i] * scale[i] ** 2;
    yy += (b[i] * scale[i]) ** 2;
  }
  const first = Math.sqrt(xx) || 1e-12; // Cholesky: (first, 0; mixed, last)
  const mixed = xy / first;
  const last = Math.sqrt(Math.max(0, yy - mixed * mixed));
  return Array.from({ length: 48 }, (_, i) => {
    const [c, s] = [Math.cos((i * Math.PI) / 24), Math.sin((i * Math.PI) / 24)];
    return [x + times * first * c, y + times * (mixed * c + last * s)];
  });
}
