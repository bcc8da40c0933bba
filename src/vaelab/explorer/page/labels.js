// Names on a map: moved apart where they would cover each other, or else left out.

import { signed } from "vaelab/dom.js";

/** @typedef {[number, number]} Place */

const STEPS = 40;
const FAR = 26; // pixels that a name may be moved from where it belongs

/**
 * Where names are written, in pixels; null for those that are left out as another, earlier one
 * lies there. The same places give the same answer.
 * @param {Place[]} places middles of the names, those that matter most first
 * @param {Place[]} halves half the width and half the height of each
 * @param {number} fixed how many of them, the first, stay where they are
 * @returns {(Place|null)[]}
 */
export function apart(places, halves, fixed = 0) {
  const moved = places.map(([x, y]) => /** @type {Place} */ ([x, y]));
  for (let step = 0; step < STEPS; step++) {
    let still = true;
    for (let i = fixed; i < moved.length; i++) {
      for (let j = 0; j < i; j++) {
        const over = overlap(moved, halves, i, j);
        const axis = over[0] < over[1] ? 0 : 1;
        if (over[axis] <= 0) continue;
        const whole = (over[axis] + 0.02) * (moved[i][axis] < moved[j][axis] ? -1 : 1);
        const share = j < fixed ? 0 : 0.5;
        moved[i][axis] += whole * (1 - share);
        moved[j][axis] -= whole * share;
        still = false;
      }
    }
    moved.forEach((place, i) => hold(place, places[i]));
    if (still) break;
  }
  /** @type {number[]} */
  const kept = [];
  return moved.map((place, i) => {
    const covered = kept.some((j) => Math.min(...overlap(moved, halves, i, j)) > 1);
    if (covered && i >= fixed) return null;
    kept.push(i);
    return place;
  });
}

/** @param {Place[]} at @param {Place[]} halves @param {number} i @param {number} j @returns {Place} */
function overlap(at, halves, i, j) {
  return [
    halves[i][0] + halves[j][0] - Math.abs(at[i][0] - at[j][0]),
    halves[i][1] + halves[j][1] - Math.abs(at[i][1] - at[j][1]),
  ];
}

/** Brings a place back to where it belongs as far as it went too far. @param {Place} place @param {Place} home */
function hold(place, home) {
  const [dx, dy] = [place[0] - home[0], place[1] - home[1]];
  const share = Math.min(1, FAR / (Math.hypot(dx, dy) || 1));
  place[0] = home[0] + dx * share;
  place[1] = home[1] + dy * share;
}

/** @param {string} text @returns {Place} half of what a name takes on the map, about */
export function half(text) {
  return [4.6 * text.length + 1.5, 8];
}

/** About five round numbers between two. @param {number} low @param {number} high */
export function ticks(low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * (raw / power >= 5 ? 5 : raw / power >= 2 ? 2 : 1);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

/** @param {number} value */
export function tick(value) {
  const short = Math.abs(value) < 1e-9 ? 0 : Number(value.toPrecision(6));
  return signed(String(short));
}
