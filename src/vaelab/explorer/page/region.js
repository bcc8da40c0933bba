// A region of a map, chosen with the lasso: its members, their mean, their classes.

import { el, save } from "vaelab/dom.js";
import { inside } from "vaelab/nearby.js";
import { captioned, panel } from "vaelab/panels.js";
import { canvas, draw, png } from "vaelab/pixels.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */

const SHOWN = 100; // members whose images are shown
const AT_ONCE = 1000; // codes asked for in one request

/** What lies inside the lasso. */
export class RegionPanel {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.model = 0;
    /** @type {number[]} */
    this.members = [];
    this.body = el("div", {}, el("p", { class: "soft" }, "Draw around points with Shift and the pointer, or with Lasso."));
    this.element = panel("Region", this.body);
  }

  /** @param {number} model @param {number[][]} corners */
  async show(model, corners) {
    const { explorer } = this;
    const { view, name, map } = explorer.models[model];
    this.model = model;
    this.members = inside(view.points, corners, map.shown);
    for (const other of explorer.models) if (other.index !== model) other.map.mark("lasso", null);
    const { members } = this;
    if (!members.length) {
      this.body.replaceChildren(el("p", { class: "soft" }, "No data lie inside."));
      return;
    }
    const { scene, backend } = explorer;
    const pictures = el("div", { class: "row" });
    this.body.replaceChildren(
      el("p", {}, `${members.length.toLocaleString("en")} data, by ${name}`), this.classes() ?? "",
      pictures,
      el("p", { class: "buttons" },
        el("button", { type: "button", click: () => this.saveCsv() }, "Save CSV"),
        scene.can.hover === "none" ? null
          : el("button", { type: "button", click: () => this.saveGrid() }, "Save images")));
    if (scene.can.hover === "none") return;
    const mean = canvas(scene.shape, `Mean of ${members.length} data`);
    draw(mean, scene.shape, await backend.mean(members));
    pictures.append(captioned("mean", mean), captioned(`first ${Math.min(SHOWN, members.length)}`, await this.grid()));
  }

  /** How many members each class has. */
  classes() {
    const { labels, scene } = this.explorer;
    if (!labels) return null;
    const counts = new Map();
    for (const member of this.members) counts.set(labels[member], (counts.get(labels[member]) ?? 0) + 1);
    const rows = [...counts].filter(([label]) => label < scene.classes.length)
      .sort((a, b) => b[1] - a[1]);
    return el("table", { class: "counts" }, el("caption", {}, "classes"), el("tbody", {}, ...rows.map(([label, count]) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = this.explorer.palette()[label];
      return el("tr", {}, el("th", { scope: "row" }, swatch, scene.classes[label].name),
        el("td", {}, count.toLocaleString("en")),
        el("td", {}, `${((100 * count) / this.members.length).toFixed(1)} %`));
    })));
  }

  /** The first members as one picture. */
  async grid() {
    const { scene, backend } = this.explorer;
    const some = this.members.slice(0, SHOWN);
    const columns = Math.min(10, some.length);
    const rows = Math.ceil(some.length / columns);
    const picture = canvas(scene.shape, `The first ${some.length} members`, columns, rows);
    picture.classList.add("grid");
    draw(picture, scene.shape, await backend.images(some), columns);
    return picture;
  }

  async saveGrid() {
    save(await png(await this.grid(), 2), "region.png");
  }

  /** Saves the members with their labels and codes, one a line. */
  async saveCsv() {
    const { explorer } = this;
    const { backend, labels, models } = explorer;
    const { dim } = models[this.model];
    const axes = Array.from({ length: dim }, (_, i) => `z${i + 1}`);
    const lines = [["index", "split", "row", ...(labels ? ["label"] : []), ...axes].join()];
    const most = Math.max(1, Math.floor(AT_ONCE / Math.max(1, dim / 32)));
    for (let from = 0; from < this.members.length; from += most) {
      const some = this.members.slice(from, from + most);
      const { loc } = await backend.codes(this.model, some);
      some.forEach((index, k) => {
        const z = Array.from(loc.subarray(k * dim, (k + 1) * dim), (v) => v.toPrecision(7));
        const called = labels ? [quoted(explorer.called(index))] : [];
        lines.push([index, ...this.origin(index), ...called, ...z].join());
      });
    }
    save(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }), "region.csv");
  }

  /** The split that a datum is of, and its row there. @param {number} index @returns {[string, number]} */
  origin(index) {
    let row = index;
    for (const { name, count } of this.explorer.scene.splits) {
      if (row < count) return [name, row];
      row -= count;
    }
    return ["", row];
  }
}

/** @param {string} text */
function quoted(text) {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
