// The page: the maps of several models side by side, and panels for what is pointed at.

import { read, write } from "vaelab/address.js";
import { graded, palette, parsed, quantiles } from "vaelab/colours.js";
import { el, newest, spoken } from "vaelab/dom.js";
import { Edges } from "vaelab/edges.js";
import { LatentMap } from "vaelab/map.js";
import { density } from "vaelab/nearby.js";
import { image } from "vaelab/pixels.js";
import { project, lift } from "vaelab/space.js";
import { InterpolationPanel } from "vaelab/interpolation.js";
import { DatumPanel, NeighboursPanel, PointPanel } from "vaelab/panels.js";
import { PicturePanel } from "vaelab/picture.js";
import { RegionPanel } from "vaelab/region.js";
import { toolbar } from "vaelab/toolbar.js";

/** @typedef {import("vaelab/types.js").Backend} Backend */
/** @typedef {import("vaelab/types.js").View} View */
/**
 * One model on the page.
 * @typedef {{index: number, name: string, dim: number, map: LatentMap, view: View,
 *   z: Float32Array, axes: string[], wanted: string[]}} Model
 */
/**
 * A decoded backdrop: square images from the upper left corner on, row by row.
 * @typedef {{left: number, top: number, side: number, columns: number, images: ImageBitmap[]}} Tiles
 */

const NONE = 65535; // the class of data without one
const TILE = 44; // pixels of the page for an image of the backdrop

/** The whole page; panels ask it for the models and tell it what the person did. */
export class Explorer {
  /**
   * @param {HTMLElement} root
   * @param {Backend} backend
   */
  constructor(root, backend) {
    this.root = root;
    this.backend = backend;
    this.scene = backend.scene;
    /** @type {Model[]} */
    this.models = [];
    /** @type {Uint16Array|null} */
    this.labels = null;
    /** @type {Set<number>} */
    this.hidden = new Set();
    this.colour = "class";
    this.density = this.backdrop = false;
    this.linked = true;
    this.active = 0;
    this.asked = 0; // how many points were made current
    this.status = el("p", { role: "status", "aria-live": "polite", class: "status" });
    this.state = read();
    this.wrong = el("p", { role: "alert", class: "wrong" });
    this.decodeAll = newest(() => this.decoded());
    this.under = -1; // the datum under the pointer
    this.hover = later(60, () => this.datum.hover(this.under));
    this.atRest = later(150, () => this.rested());
    this.noted = later(300, () => write(this));
    /** @type {Map<number, Tiles>} */
    this.tiles = new Map();
    this.edges = new Edges(this);
    this.point = new PointPanel(this);
    this.datum = new DatumPanel(this);
    this.neighbours = new NeighboursPanel(this);
    this.strip = new InterpolationPanel(this);
    this.region = new RegionPanel(this);
    this.picture = this.scene.can.upload ? new PicturePanel(this) : null;
    this.toolbar = toolbar(this);
  }

  /** Builds the page; resolves when all is drawn. */
  async start() {
    const { scene } = this;
    this.labels = scene.classes.length ? await this.backend.labels() : null;
    this.colour = this.labels ? "class" : "none";
    this.toolbar.restore(this.state);
    const maps = el("div", { class: "maps" });
    const dock = el("div", { class: "dock" }, this.point.element, this.datum.element,
      this.neighbours.element);
    const below = el("div", { class: "below" }, this.region.element, this.picture?.element ?? null);
    const stage = el("div", { class: "stage" }, this.toolbar.element, this.edges.note, maps, this.wrong, this.status,
      this.strip.element, below);
    this.root.classList.add("vaelab");
    this.listen();
    this.root.replaceChildren(stage, dock);
    await Promise.all(scene.models.map(async (_, index) => maps.append(await this.model(index))));
    maps.replaceChildren(...this.models.map((model) => /** @type {Node} */ (model.map.element.parentNode)));
    this.restore();
    await this.recolour();
    if (this.scene.figures.includes(this.state.colour)) await this.toolbar.choose(this.state.colour);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.root.dataset.ready = "true";
    if (this.edges.on) this.edges.toggle(true); // not waited for: it may take a minute
  }

  /** Shows what goes wrong, until all is well again. */
  listen() {
    const { backend, wrong } = this;
    backend.onlost = (line) => (wrong.textContent = line);
    backend.onback = () => (wrong.textContent = "");
    window.addEventListener("unhandledrejection", (event) => {
      event.preventDefault();
      wrong.textContent = event.reason instanceof Error ? event.reason.message : `${event.reason}`;
    });
  }

  /** @param {number} index */
  async model(index) {
    const info = this.scene.models[index];
    const dim = info.latent_dim;
    const axes = this.state.axes[index] ?? ["z1", dim > 1 ? "z2" : "z1"];
    const map = new LatentMap(info.name, {
      move: (u, datum) => this.pointed(index, u, datum),
      click: (u) => this.strip.pick(index, this.lifted(index, u)),
      drag: (mark, u) => {
        this.at(index, this.lifted(index, u));
        this.strip.drag(mark === "start" ? 0 : 1, index, this.models[index].z);
      },
      lasso: (corners) => this.region.show(index, corners),
      view: () => this.atRest(),
    });
    const view = await this.backend.view(index, axes);
    const z = this.state.z?.length === dim ? Float32Array.from(this.state.z) : new Float32Array(dim);
    this.models[index] = { index, name: info.name, dim, map, view, z, axes, wanted: axes };
    map.circles = info.standard_prior ? 3 : 0;
    map.shown = (datum) => this.shown(datum);
    map.underlay = () => this.underlay(index);
    this.lay(index);
    return el("section", { class: "model", "aria-label": info.name },
      el("h3", {}, info.name, this.toolbar.axes(index)), map.element);
  }

  /** Puts a model's points on its map. @param {number} index */
  lay(index) {
    const { map, view } = this.models[index];
    map.place(view.points);
    map.names = this.medians(view.points);
  }

  /** Shows other dimensions of a model. @param {number} index @param {string[]} axes */
  async turn(index, axes) {
    const model = this.models[index];
    model.wanted = axes;
    const view = await this.backend.view(index, axes);
    if (model.wanted !== axes) return; // others were chosen meanwhile, whose answer may be here already
    model.view = view;
    model.axes = axes;
    model.map.chosen = false;
    this.lay(index);
    model.map.mark("lasso", null); // its corners are of a plane that is no longer shown
    this.remark();
    this.datum.remark();
    this.edges.point(this.edges.datum);
    this.picture?.remark();
    this.strip.update();
    this.noted();
  }

  /** Where each class is called by its name: the median of its points. @param {Float32Array} points */
  medians(points) {
    const { labels } = this;
    if (!labels || this.scene.classes.length > 30) return [];
    const step = Math.max(1, Math.floor(labels.length / 50_000));
    /** @type {number[][][]} */
    const places = this.scene.classes.map(() => [[], []]);
    for (let i = 0; i < labels.length; i += step) {
      if (labels[i] === NONE || this.hidden.has(labels[i])) continue;
      places[labels[i]][0].push(points[2 * i]);
      places[labels[i]][1].push(points[2 * i + 1]);
    }
    const middle = (/** @type {number[]} */ values) =>
      values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
    const sizes = places.map(([xs]) => xs.length); // names of the larger classes come first
    return [...sizes.keys()].filter((c) => sizes[c]).sort((a, b) => sizes[b] - sizes[a]).map((c) => ({
      text: this.scene.classes[c].name, at: /** @type {[number, number]} */ (places[c].map(middle)),
    }));
  }

  /** The name of a datum's class; empty where it has none. @param {number} datum */
  called(datum) {
    const { labels, scene } = this;
    return labels && labels[datum] !== NONE ? scene.classes[labels[datum]].name : "";
  }

  /** @param {number} datum */
  shown(datum) {
    return !this.labels || !this.hidden.has(this.labels[datum]);
  }

  /** The latent point at a place of a model's map. @param {number} index @param {number[]} u */
  lifted(index, u) {
    const { view, z } = this.models[index];
    return lift(view, u, z);
  }

  /** The models that a point of one of them is shown in. @param {number} index */
  along(index) {
    const { dim } = this.models[index];
    return this.models.filter((m) => m.index === index || (this.linked && m.dim === dim));
  }

  /** The pointer is at a place of a map. @param {number} index @param {number[]} u @param {number} datum */
  pointed(index, u, datum) {
    this.at(index, this.lifted(index, u));
    this.under = datum;
    this.hover();
  }

  /** Makes a latent point the current one. @param {number} index @param {Float32Array} z */
  at(index, z) {
    this.active = index;
    for (const model of this.along(index)) model.z = Float32Array.from(z);
    this.asked++;
    this.decodeAll();
    this.status.textContent = spoken(z);
    this.remark();
    this.point.follow();
    this.atRest();
  }

  /** Marks the current point on the maps. */
  remark() {
    for (const model of this.models) {
      model.map.mark("probe", [project(model.view, model.z)]);
    }
  }

  /** Decodes the current point, the model under the pointer first; gives up for a newer point. */
  async decoded() {
    const { asked } = this;
    const models = this.along(this.active);
    models.sort((a, b) => Number(b.index === this.active) - Number(a.index === this.active));
    for (const model of models) {
      if (this.asked !== asked) return;
      const { z } = model;
      this.point.show(model.index, z, await this.backend.decode(model.index, z));
    }
  }

  /** What waits until the pointer and the maps have come to rest. */
  async rested() {
    this.noted();
    this.neighbours.follow();
    this.edges.follow(false);
    if (this.backdrop) for (const model of this.models) await this.drawBackdrop(model);
  }

  /** The classes' colours on the page as it is, light or dark. */
  palette() {
    return palette(this.scene.classes, getComputedStyle(this.root).colorScheme === "dark");
  }

  /** Paints all points by class or by a figure. */
  async recolour() {
    const { count } = this.scene;
    const { labels } = this;
    const classes = this.palette().map((colour) => packed(parsed(colour)));
    const plain = packed(PLAIN);
    this.toolbar.dye(this.palette());
    for (const model of this.models) {
      const values = this.scene.figures.includes(this.colour)
        ? await this.backend.figure(model.index, this.colour)
        : null;
      const [low, high] = values ? quantiles(values, [0.02, 0.98]) : [0, 1];
      const colours = new Uint32Array(count);
      for (let i = 0; i < count; i++) {
        if (this.density || !this.shown(i)) continue; // 0 is hidden
        if (values) colours[i] = SHADES[Math.round((255 * (clamped(values[i], low, high) - low)) / (high - low || 1))];
        else if (this.colour === "class" && labels && labels[i] !== NONE) colours[i] = classes[labels[i]];
        else colours[i] = plain;
      }
      model.map.paint(new Uint8Array(colours.buffer));
      this.toolbar.scale(model.index, values ? [low, high] : null);
    }
    this.edges.follow(true);
    this.noted();
  }

  /** Shows or hides a class. @param {number} label @param {boolean} shown */
  async toggle(label, shown) {
    if (shown) this.hidden.delete(label);
    else this.hidden.add(label);
    for (const model of this.models) model.map.names = this.medians(model.view.points);
    await this.recolour();
  }

  /** Draws what lies under the points of a map. @param {number} index */
  underlay(index) {
    const { map, view } = this.models[index];
    const context = map.under.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, map.under.width, map.under.height);
    if (this.density) drawDensity(context, map, view, (datum) => this.shown(datum));
    const tiles = this.tiles.get(index);
    if (this.backdrop && tiles) {
      const [x, y] = map.pixel([tiles.left, tiles.top]);
      const ratio = devicePixelRatio;
      const size = tiles.side * map.scale * ratio;
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 0.45;
      tiles.images.forEach((tile, k) => {
        const [column, row] = [k % tiles.columns, Math.floor(k / tiles.columns)];
        context.drawImage(tile, x * ratio + column * size, y * ratio + row * size, size, size);
      });
      context.globalAlpha = 1;
    }
  }

  /** Decodes a lattice over what a map shows. @param {Model} model */
  async drawBackdrop(model) {
    const { map, view, index } = model;
    const [left, bottom, right, top] = map.box();
    const side = TILE / map.scale;
    const [columns, rows] = [Math.ceil((right - left) / side), Math.ceil((top - bottom) / side)];
    const points = new Float32Array(columns * rows * model.dim);
    for (let k = 0; k < columns * rows; k++) {
      const u = [left + ((k % columns) + 0.5) * side, top - (Math.floor(k / columns) + 0.5) * side];
      points.set(lift(view, u, model.z), k * model.dim);
    }
    const values = await this.backend.decode(index, points);
    const each = values.length / (columns * rows);
    const images = [];
    for (let k = 0; k < columns * rows; k++) {
      images.push(await createImageBitmap(
        image(this.scene.shape, values.subarray(k * each, (k + 1) * each))
      ));
    }
    this.tiles.set(index, { left, top, side, columns, images });
    this.underlay(index);
  }

  /** Shows the part of each map, the point and the ends that the address says. */
  restore() {
    const { state } = this;
    for (const model of this.models) {
      const seen = state.views[model.index];
      if (seen) model.map.show([seen[0], seen[1]], seen[2]);
    }
    this.at(0, this.models[0].z);
    this.strip.restore(state);
  }
}

const PLAIN = [75, 103, 250]; // the colour of points without classes
const SHADES = Uint32Array.from({ length: 256 }, (_, i) => packed(graded(i / 255)));

/** A colour as the four bytes that points take, in a number. @param {number[]} rgb */
function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** @param {number} value @param {number} low @param {number} high */
function clamped(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {LatentMap} map
 * @param {View} view
 * @param {(datum: number) => boolean} shown
 */
function drawDensity(context, map, view, shown) {
  const [width, height] = [Math.ceil(map.width / 2), Math.ceil(map.height / 2)];
  const counts = density(view.points, map.box(), width, height, shown);
  const most = counts.reduce((a, b) => Math.max(a, b), 0) || 1;
  const picture = new ImageData(width, height);
  counts.forEach((count, i) => {
    const share = Math.sqrt(count / most);
    picture.data.set([...graded(share), count ? 255 * Math.min(1, 6 * share) : 0], 4 * i);
  });
  createImageBitmap(picture).then((bitmap) =>
    context.drawImage(bitmap, 0, 0, map.under.width, map.under.height)
  );
}

/**
 * Wraps work that waits until it has not been asked for a while.
 * @param {number} milliseconds
 * @param {() => void} work
 */
function later(milliseconds, work) {
  /** @type {number|undefined} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

/**
 * Builds the page in an element.
 * @param {HTMLElement} root
 * @param {Backend} backend
 */
export async function mount(root, backend) {
  const explorer = new Explorer(root, backend);
  await explorer.start();
  return explorer;
}
