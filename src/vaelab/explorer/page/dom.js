// Small helpers for the document: elements, requests of which only the newest counts, files.

/**
 * Makes an element. Attributes whose value is null or false are left out; functions become
 * listeners; children may be elements or texts.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node|string|null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/**
 * Makes an element of SVG.
 * @param {string} tag
 * @param {Record<string, string|number>} [attributes]
 * @param {...(Node|string)} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * Wraps slow work that is asked for faster than it is done, by a moving pointer say: one call
 * runs, and of those that come meanwhile only the newest is run after it.
 * @template {any[]} A
 * @param {(...given: A) => Promise<void>} work
 * @returns {(...given: A) => void}
 */
export function newest(work) {
  let busy = false;
  /** @type {A|null} */
  let waiting = null;
  /** @param {A} given */
  async function run(...given) {
    if (busy) {
      waiting = given;
      return;
    }
    busy = true;
    try {
      await work(...given);
    } finally {
      busy = false;
      if (waiting) {
        const next = waiting;
        waiting = null;
        run(...next);
      }
    }
  }
  return (...given) => void run(...given);
}

/**
 * Offers a file to the person.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Writes a latent point as the page does everywhere: z = (0.50, −0.20), at most six numbers.
 * @param {ArrayLike<number>} z
 * @param {number} [most]
 */
export function spoken(z, most = 6) {
  const numbers = Array.from(z).slice(0, most).map(fixed);
  return `z = (${numbers.join(", ")}${z.length > most ? ", …" : ""})`;
}

/**
 * Two decimals, with the sign of mathematics, and none before a zero.
 * @param {number} value
 */
export function fixed(value) {
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : signed(text);
}

/** A number with a minus sign, not a hyphen. @param {string} text */
export function signed(text) {
  return text.replaceAll("-", "−");
}
