// Colours of classes and of figures, for light and dark.

// Nine points of Matplotlib's viridis (van der Walt & Smith, CC0), a perceptual map that the
// colour-blind can read.
const VIRIDIS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

// Ten colours for classes on a dark page, found like those of vaelab's figures: a search for the
// greatest least distance in Oklab over normal vision and complete protanopia, deuteranopia and
// tritanopia, from the background too: 13.1 (of 100); each near the hue that it has in light.
const ON_DARK = [
  "#649aff", "#d87a39", "#8bda00", "#deb2b2", "#9bffff",
  "#c4334d", "#eefc99", "#a38aa3", "#9c4ca6", "#6d4aff",
];

/**
 * The colours of classes on a light or a dark page.
 * @param {import("vaelab/types.js").ClassInfo[]} classes
 * @param {boolean} dark
 */
export function palette(classes, dark) {
  return classes.map(({ colour }, i) => (dark && classes.length <= ON_DARK.length ? ON_DARK[i] : colour));
}

/**
 * Red, green and blue of a share from 0 to 1.
 * @param {number} share
 * @returns {[number, number, number]}
 */
export function graded(share) {
  const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const below = Math.min(VIRIDIS.length - 2, Math.floor(place));
  const [a, b] = [VIRIDIS[below], VIRIDIS[below + 1]];
  const mixed = a.map((value, i) => Math.round(value + (b[i] - value) * (place - below)));
  return [mixed[0], mixed[1], mixed[2]];
}

/** The whole map as a CSS gradient, from left to right. */
export const GRADIENT = `linear-gradient(to right, ${VIRIDIS.map((c) => `rgb(${c})`).join(", ")})`;

/**
 * Red, green and blue of "#rrggbb".
 * @param {string} hex
 * @returns {[number, number, number]}
 */
export function parsed(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * Quantiles of the finite values, by a sample of at most 100,000 of them.
 * @param {Float32Array} values
 * @param {number[]} shares
 */
export function quantiles(values, shares) {
  const step = Math.max(1, Math.floor(values.length / 100_000));
  /** @type {number[]} */
  const some = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) some.push(values[i]);
  some.sort((a, b) => a - b);
  return shares.map((share) => some[Math.round(share * (some.length - 1))] ?? 0);
}
