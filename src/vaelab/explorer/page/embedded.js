// Arrays and pictures that lie in the page itself, as base64 in elements that no browser runs.

/** @typedef {{blob: number, type: string}} Ref  an array in the page: its place and type */
/**
 * Pictures on sheets, row by row; `height` and `width` are those of a stored picture.
 * @typedef {{height: number, width: number, channels: number, columns: number, rows: number,
 *   sheets: Ref[]}} Sheets
 */

const KEPT = 2 ** 26; // bytes of pictures that stay unpacked

/** Pictures that lie on sheets; a sheet is unpacked when one of its pictures is first asked for. */
export class Pictures {
  /** @param {Document} page @param {Sheets} layout @param {number[]} shape of a picture */
  constructor(page, layout, shape) {
    this.page = page;
    this.layout = layout;
    this.shape = shape;
    /** @type {Map<number, Promise<Uint8Array>>} the last used comes last */
    this.sheets = new Map();
  }

  /** A picture by its place, in channels, height and width. @param {number} index */
  async at(index) {
    const { channels, height, width, columns, rows } = this.layout;
    const sheet = await this.sheet(Math.floor(index / (columns * rows)));
    const cell = index % (columns * rows);
    const size = channels * height * width;
    const small = sheet.subarray(cell * size, (cell + 1) * size);
    const [, tall, wide] = this.shape;
    return tall === height && wide === width ? small : enlarged(small, height, width, tall, wide);
  }

  /** The pictures of a sheet, one after another. @param {number} place */
  sheet(place) {
    const known = this.sheets.get(place) ?? this.unpacked(place);
    this.sheets.delete(place);
    this.sheets.set(place, known);
    const { channels, height, width, columns, rows } = this.layout;
    const most = Math.max(1, Math.floor(KEPT / (channels * height * width * columns * rows)));
    for (const old of this.sheets.keys()) if (this.sheets.size > most) this.sheets.delete(old);
    return known;
  }

  /** @param {number} place */
  async unpacked(place) {
    const file = new Blob([bytes(this.page, this.layout.sheets[place])], { type: "image/webp" });
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
    const canvas = this.page.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("this browser reads no pictures back; use another one.");
    context.drawImage(bitmap, 0, 0);
    return parted(context.getImageData(0, 0, bitmap.width, bitmap.height), this.layout);
  }
}

/**
 * The pictures of a sheet, one after another, in channels, height and width.
 * @param {ImageData} sheet @param {Sheets} layout
 */
function parted(sheet, { channels, height, width, columns }) {
  const { data } = sheet;
  const colour = channels === 3;
  const tall = colour ? height : channels * height;
  const out = new Uint8Array((sheet.height / tall) * columns * channels * height * width);
  let to = 0;
  for (let cell = 0; to < out.length; cell++) {
    const [top, left] = [Math.floor(cell / columns) * tall, (cell % columns) * width];
    for (let c = 0; c < channels; c++) {
      const first = (top + (colour ? 0 : c * height)) * sheet.width + left;
      for (let y = 0; y < height; y++) {
        let from = 4 * (first + y * sheet.width) + (colour ? c : 0);
        for (let x = 0; x < width; x++, from += 4) out[to++] = data[from];
      }
    }
  }
  return out;
}

/**
 * A picture of another size, by its channels: the four pixels around each point, by nearness.
 * @param {Uint8Array} image @param {number} height @param {number} width of the picture
 * @param {number} tall @param {number} wide of the result
 */
function enlarged(image, height, width, tall, wide) {
  const channels = image.length / (height * width);
  const out = new Uint8Array(channels * tall * wide);
  const [rows, columns] = [between(height, tall), between(width, wide)];
  let to = 0;
  for (let c = 0; c < channels; c++) {
    for (const [top, bottom, down] of rows) {
      for (const [left, right, across] of columns) {
        const value = (/** @type {number} */ row, /** @type {number} */ column) =>
          image[(c * height + row) * width + column];
        const above = (1 - across) * value(top, left) + across * value(top, right);
        const below = (1 - across) * value(bottom, left) + across * value(bottom, right);
        out[to++] = Math.round((1 - down) * above + down * below);
      }
    }
  }
  return out;
}

/**
 * The two places among `few` that each of `many` lies between, and how far along.
 * @param {number} few @param {number} many
 */
function between(few, many) {
  return Array.from({ length: many }, (_, k) => {
    const at = Math.min(few - 1, Math.max(0, ((k + 0.5) * few) / many - 0.5));
    const low = Math.floor(at);
    return [low, Math.min(few - 1, low + 1), at - low];
  });
}

/** The bytes of an array of the page. @param {Document} page @param {Ref} ref */
export function bytes(page, ref) {
  const text = atob(page.getElementById(`vaelab-blob-${ref.blob}`)?.textContent ?? "");
  const out = new Uint8Array(text.length);
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/**
 * Rising whole numbers from their differences, in groups of seven bits, the lowest first; the
 * eighth bit of a byte says that more follow.
 * @param {Uint8Array} groups
 */
export function ordered(groups) {
  const numbers = [];
  let [last, factor] = [0, 1];
  for (const group of groups) {
    last += (group & 127) * factor;
    factor *= 128;
    if (group & 128) continue;
    numbers.push(last);
    factor = 1;
  }
  return numbers;
}

/** An array of the page in 32-bit floats. @param {Document} page @param {Ref|undefined} ref */
export function floats(page, ref) {
  if (!ref) throw new Error("this page lacks an array; write it again.");
  const { buffer } = bytes(page, ref);
  if (ref.type === "float32") return new Float32Array(buffer);
  if (ref.type === "uint8") return new Float32Array(new Uint8Array(buffer));
  const halves = new Uint16Array(buffer);
  const out = new Float32Array(halves);
  if (ref.type === "float16") for (let i = 0; i < out.length; i++) out[i] = HALVES[halves[i]];
  return out;
}

/** The value of each 16-bit float, by its bits. */
const HALVES = new Float32Array(65536);
for (let bits = 0; bits < HALVES.length; bits++) HALVES[bits] = half(bits);

/** The value of a 16-bit float, which is finite. @param {number} bits */
function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
  return bits & 32768 ? -size : size;
}
