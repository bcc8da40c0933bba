// The backend that asks the server of `vaelab explore`: small data over one websocket, large ones
// by plain requests. What goes over the wire is told in explorer/protocol.py.

import { product } from "vaelab/shapes.js";

/** @typedef {import("vaelab/types.js").Scene} Scene */
/** @typedef {import("vaelab/types.js").View} View */
/** @typedef {import("vaelab/types.js").Datum} Datum */
/** @typedef {import("vaelab/types.js").Placement} Placement */
/** @typedef {import("vaelab/types.js").Pixels} Pixels */
/** @typedef {{resolve: (value: any) => void, reject: (error: Error) => void}} Waiting */

const GONE = "The server is gone; the page goes on when it is back.";
const OTHER = "The server shows something else now; reload the page.";
const REFUSED = "The server cannot be reached; is it still running?";
const PAUSE = [500, 1000, 2000, 5000]; // ms before each attempt to connect again, the last for all

/** @type {Record<string, any>} */
const ARRAYS = {
  float32: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
};

/**
 * Reads a binary message: the length of a header, the header in JSON, and arrays after it, which
 * are put in their places in the header. They share the message's memory.
 * @param {ArrayBuffer} message
 * @returns {any}
 */
export function unframe(message) {
  const length = new DataView(message).getUint32(0, true);
  const header = new TextDecoder().decode(new Uint8Array(message, 4, length));
  const { arrays, ...values } = JSON.parse(header);
  let start = 4 + length;
  for (const { name, dtype, shape } of arrays) {
    const array = new ARRAYS[dtype](message, start, product(shape));
    const way = name.split(".");
    const last = way.pop();
    /** @type {any} */
    let place = values;
    for (const step of way) place = place[step];
    place[last] = array;
    start += Math.ceil(array.byteLength / 4) * 4;
  }
  return values;
}

/** Asks a server. Every method rejects with an `Error` of one line. */
export class Live {
  /**
   * Connects to a server.
   * @param {string} base the page's address
   * @returns {Promise<Live>}
   */
  static async connect(base) {
    const live = new Live(base, await (await request(new URL("scene.json", base))).json());
    await live.open();
    return live;
  }

  /**
   * @param {string} base
   * @param {Scene} scene
   */
  constructor(base, scene) {
    this.base = base;
    /** What is shown. */
    this.scene = scene;
    /**
     * Called with one line when the server is gone, once each time, and when what it shows is
     * another thing afterwards.
     * @type {(line: string) => void}
     */
    this.onlost = () => {};
    /**
     * Called when the server is back.
     * @type {() => void}
     */
    this.onback = () => {};
    /** @type {WebSocket|null} */
    this.socket = null;
    /** @type {Map<number, Waiting>} */
    this.waiting = new Map();
    this.asked = 0;
  }

  /**
   * Opens the websocket, and keeps it open from then on.
   * @returns {Promise<void>}
   */
  open() {
    const address = new URL("ws", this.base);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = address.search = "";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.take(event.data);
    return new Promise((resolve, reject) => {
      socket.onopen = () => {
        this.socket = socket;
        resolve();
      };
      socket.onclose = () => {
        if (this.socket === socket) this.lose();
        reject(new Error(REFUSED));
      };
    });
  }

  /**
   * Takes an answer.
   * @param {ArrayBuffer} message
   */
  take(message) {
    const { id, error, ...values } = unframe(message);
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) waiting?.resolve(values);
    else waiting?.reject(new Error(error));
  }

  /** What to do when the server is gone: nothing more is waited for, and it is looked for again. */
  lose() {
    this.socket = null;
    for (const { reject } of this.waiting.values()) reject(new Error(GONE));
    this.waiting.clear();
    this.onlost(GONE);
    this.seek(0);
  }

  /**
   * Connects again, as often as it takes.
   * @param {number} attempt
   * @returns {Promise<void>}
   */
  async seek(attempt) {
    const pause = PAUSE[Math.min(attempt, PAUSE.length - 1)];
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      const scene = await (await request(new URL("scene.json", this.base))).json();
      if (JSON.stringify(scene) !== JSON.stringify(this.scene)) return this.onlost(OTHER);
      await this.open();
    } catch {
      return this.seek(attempt + 1);
    }
    this.onback();
  }

  /**
   * Sends one request over the websocket.
   * @param {string} what
   * @param {Record<string, any>} given typed arrays become lists
   * @returns {Promise<any>}
   */
  ask(what, given) {
    const socket = this.socket;
    if (!socket) return Promise.reject(new Error(GONE));
    const id = ++this.asked;
    const plain = Object.entries(given).map(([name, value]) => [
      name,
      typeof value === "object" ? Array.from(value) : value,
    ]);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      socket.send(JSON.stringify({ id, do: what, ...Object.fromEntries(plain) }));
    });
  }

  /**
   * Fetches from an address of the server.
   * @param {string} where
   * @param {Record<string, string|number>} query
   * @param {RequestInit} [options]
   */
  fetch(where, query, options) {
    const address = new URL(where, this.base);
    address.hash = "";
    for (const [name, value] of Object.entries(query)) address.searchParams.set(name, `${value}`);
    return request(address, options);
  }

  /** @returns {Promise<Uint16Array|null>} */
  async labels() {
    const response = await this.fetch("labels", {});
    return response.status === 204 ? null : new Uint16Array(await response.arrayBuffer());
  }

  /**
   * @param {number} model
   * @param {string[]} axes
   * @returns {Promise<View>}
   */
  async view(model, axes) {
    const response = await this.fetch("view", { model, axes: axes.join(",") });
    const { basis, ...view } = unframe(await response.arrayBuffer());
    const size = basis.length / 2;
    return { ...view, basis: [basis.subarray(0, size), basis.subarray(size)] };
  }

  /**
   * @param {number} model
   * @param {string} name
   */
  async figure(model, name) {
    return new Float32Array(await (await this.fetch("figure", { model, name })).arrayBuffer());
  }

  /** @returns {Promise<{ends: Uint32Array, each: number}>} */
  async edges() {
    return { ends: new Uint32Array(await (await this.fetch("edges", {})).arrayBuffer()), each: 0 };
  }

  /**
   * @param {number} model
   * @param {Float32Array} z
   * @returns {Promise<Pixels>}
   */
  async decode(model, z) {
    return (await this.ask("decode", { model, z })).image;
  }

  /**
   * @param {number} model
   * @param {ArrayLike<number>} indices
   * @returns {Promise<{loc: Float32Array, scale: Float32Array}>}
   */
  codes(model, indices) {
    return this.ask("codes", { model, indices });
  }

  /**
   * @param {ArrayLike<number>} indices
   * @returns {Promise<Pixels>}
   */
  async images(indices) {
    return (await this.ask("images", { indices })).image;
  }

  /**
   * @param {number} index
   * @returns {Promise<Datum>}
   */
  datum(index) {
    return this.ask("datum", { index });
  }

  /**
   * @param {number} model
   * @param {Float32Array} z
   * @param {number} count
   * @returns {Promise<{indices: Int32Array, distances: Float32Array}>}
   */
  nearest(model, z, count) {
    return this.ask("nearest", { model, z, count });
  }

  /**
   * @param {number} model
   * @param {Float32Array} start
   * @param {Float32Array} end
   * @param {number} steps
   * @param {string} kind
   * @returns {Promise<{z: Float32Array, length: number, straight: number}>}
   */
  path(model, start, end, steps, kind) {
    return this.ask("path", { model, start, end, steps, kind });
  }

  /**
   * @param {ArrayLike<number>} indices
   * @returns {Promise<Pixels>}
   */
  async mean(indices) {
    return (await this.ask("mean", { indices })).image;
  }

  /**
   * @param {Blob} blob
   * @param {{invert: boolean}} options
   * @returns {Promise<Placement>}
   */
  async place(blob, { invert }) {
    const options = { method: "POST", body: blob };
    const response = await this.fetch("place", { invert: invert ? 1 : 0 }, options);
    return unframe(await response.arrayBuffer());
  }

  /**
   * @param {number} model
   * @param {Float32Array} z
   */
  async gif(model, z) {
    return new Blob([(await this.ask("gif", { model, z })).gif], { type: "image/gif" });
  }
}

/**
 * A response of the server; what is none becomes an `Error` of one line.
 * @param {URL} address
 * @param {RequestInit} [options]
 */
async function request(address, options) {
  const response = await fetch(address, options).catch(() => {
    throw new Error(REFUSED);
  });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `The server answered ${response.status}.`);
}
