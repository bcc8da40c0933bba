// Points in the plane: which is nearest to the pointer, which lie in a region, how dense they are.

/** Finds the point nearest to a place, by the cells of a grid over all points. */
export class Nearby {
  /** @param {Float32Array} points x, y, x, y, ... */
  constructor(points) {
    this.points = points;
    this.count = points.length / 2;
    this.box = bounds(points);
    this.side = Math.min(512, Math.max(1, Math.ceil(Math.sqrt(this.count / 4))));
    const cells = this.side * this.side;
    this.first = new Uint32Array(cells + 1);
    const cell = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      cell[i] = this.row(points[2 * i + 1]) * this.side + this.column(points[2 * i]);
      this.first[cell[i] + 1]++;
    }
    for (let c = 0; c < cells; c++) this.first[c + 1] += this.first[c];
    const next = this.first.slice();
    this.members = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.members[next[cell[i]]++] = i;
  }

  /** @param {number} x */
  column(x) {
    return this.place(x, this.box[0], this.box[2]);
  }

  /** @param {number} y */
  row(y) {
    return this.place(y, this.box[1], this.box[3]);
  }

  /** @param {number} value @param {number} low @param {number} high */
  place(value, low, high) {
    const share = (value - low) / (high - low || 1);
    return Math.min(this.side - 1, Math.max(0, Math.floor(share * this.side)));
  }

  /**
   * The nearest point that is shown, at most `radius` away; −1 where there is none.
   * @param {number} x @param {number} y @param {number} radius
   * @param {(index: number) => boolean} shown
   */
  find(x, y, radius, shown) {
    let [best, least] = [-1, radius * radius];
    for (let r = this.row(y - radius); r <= this.row(y + radius); r++) {
      const from = this.first[r * this.side + this.column(x - radius)];
      const to = this.first[r * this.side + this.column(x + radius) + 1];
      for (let m = from; m < to; m++) {
        const i = this.members[m];
        const [dx, dy] = [this.points[2 * i] - x, this.points[2 * i + 1] - y];
        const squared = dx * dx + dy * dy;
        if (squared <= least && shown(i)) [best, least] = [i, squared];
      }
    }
    return best;
  }
}

/**
 * Smallest and largest coordinates: left, bottom, right, top.
 * @param {Float32Array} points
 * @returns {[number, number, number, number]}
 */
export function bounds(points) {
  let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    left = Math.min(left, points[i]);
    right = Math.max(right, points[i]);
    bottom = Math.min(bottom, points[i + 1]);
    top = Math.max(top, points[i + 1]);
  }
  return points.length ? [left, bottom, right, top] : [-1, -1, 1, 1];
}

/**
 * The points inside a polygon, by the even-odd rule.
 * @param {Float32Array} points
 * @param {number[][]} polygon its corners
 * @param {(index: number) => boolean} shown
 */
export function inside(points, polygon, shown) {
  const [left, bottom, right, top] = bounds(Float32Array.from(polygon.flat()));
  const found = [];
  for (let i = 0; i < points.length / 2; i++) {
    const [x, y] = [points[2 * i], points[2 * i + 1]];
    if (x < left || x > right || y < bottom || y > top || !shown(i)) continue;
    let within = false;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [[ax, ay], [bx, by]] = [polygon[a], polygon[b]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
    }
    if (within) found.push(i);
  }
  return found;
}

/**
 * How many points lie near each pixel of a small picture of a region: counts, smoothed.
 * @param {Float32Array} points
 * @param {[number, number, number, number]} box left, bottom, right, top
 * @param {number} width @param {number} height
 * @param {(index: number) => boolean} shown
 */
export function density(points, box, width, height, shown) {
  const counts = new Float32Array(width * height);
  const [left, bottom, right, top] = box;
  const [sx, sy] = [width / (right - left), height / (top - bottom)];
  for (let i = 0; i < points.length / 2; i++) {
    const x = Math.floor((points[2 * i] - left) * sx);
    const y = Math.floor((top - points[2 * i + 1]) * sy);
    if (x >= 0 && y >= 0 && x < width && y < height && shown(i)) counts[y * width + x]++;
  }
  for (let pass = 0; pass < 2; pass++) {
    blur(counts, width, height, 1, width);
    blur(counts, height, width, width, 1);
  }
  return counts;
}

/**
 * Replaces each value by the mean of five in a line, along one direction.
 * @param {Float32Array} values
 * @param {number} length @param {number} lines
 * @param {number} step @param {number} stride
 */
function blur(values, length, lines, step, stride) {
  const line = new Float32Array(length);
  for (let l = 0; l < lines; l++) {
    for (let i = 0; i < length; i++) line[i] = values[l * stride + i * step];
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (let d = -2; d <= 2; d++) sum += line[i + d] ?? 0;
      values[l * stride + i * step] = sum / 5;
    }
  }
}
