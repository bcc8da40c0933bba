// Above the maps: what points are coloured by, the legend, and what else is drawn.

import { el, signed } from "vaelab/dom.js";
import { GRADIENT } from "vaelab/colours.js";

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/** @typedef {import("vaelab/address.js").State} State */

/** @param {Explorer} explorer */
export function toolbar(explorer) {
  const { scene } = explorer;
  const colour = el("select", { id: "colour", change: () => choose(colour.value) },
    scene.classes.length ? el("option", { value: "class" }, "class") : null,
    ...scene.figures.map((name) => el("option", { value: name }, `${name}, nats`)),
    el("option", { value: "none" }, "nothing"));
  const legend = scene.classes.map((info, label) => {
    const swatch = el("span", { class: "swatch" });
    const button = el("button", {
      type: "button", class: "entry", "aria-pressed": "true", title: `${info.count} data`,
      click: (/** @type {MouseEvent} */ event) =>
        event.altKey || event.shiftKey ? only(label) : show(label, !pressed(button)),
      dblclick: () => only(label),
    }, swatch, info.name);
    return button;
  });
  /** @type {HTMLElement[]} */
  const scales = scene.models.map(() => el("p", { class: "scale", hidden: true }));

  /** Colours the points. @param {string} value */
  async function choose(value) {
    colour.value = explorer.colour = value;
    colour.setAttribute("aria-busy", "true"); // a figure is computed when it is first asked for
    await explorer.recolour();
    colour.removeAttribute("aria-busy");
  }

  /** @param {number} label @param {boolean} shown */
  async function show(label, shown) {
    legend[label].setAttribute("aria-pressed", String(shown));
    await explorer.toggle(label, shown);
  }

  /** Shows one class alone, or all again. @param {number} label */
  async function only(label) {
    const alone = legend.every((button, other) => pressed(button) === (other === label));
    for (const other of legend.keys()) {
      const shown = alone || other === label;
      if (pressed(legend[other]) !== shown) await show(other, shown);
    }
  }

  const density = switched("density", "Density", async (on) => {
    explorer.density = on;
    await explorer.recolour();
  });
  const edges = switched("edges", "Neighbours", async (on) => {
    explorer.noted();
    await explorer.edges.toggle(on);
  });
  const backdrop = switched("backdrop", "Decoded backdrop", async (on) => {
    explorer.backdrop = on;
    explorer.atRest();
    for (const model of explorer.models) model.map.redraw();
  });
  const lasso = switched("lasso", "Lasso", async (on) => {
    for (const model of explorer.models) model.map.lassoing = on;
  });
  const linked = switched("linked", "Same point in all models", async (on) => {
    explorer.linked = on;
    explorer.at(explorer.active, explorer.models[explorer.active].z);
  });
  const alike = new Set(scene.models.map((model) => model.latent_dim)).size < scene.models.length;
  const fit = el("button", {
    type: "button", click: () => explorer.models.forEach((model) => model.map.fit()),
  }, "Show all");
  const images = scene.shape.length === 3;
  const element = el("div", { class: "toolbar" },
    el("label", { for: "colour" }, "Colour by ", colour),
    legend.length ? el("div", { class: "legend", role: "group", "aria-label": "Classes" }, ...legend)
      : null,
    el("div", { class: "switches" }, density,
      scene.can.edges === "none" ? null : edges, images ? backdrop : null, lasso,
      alike ? linked : null, fit, theme(explorer), help()));

  return {
    element,
    /** The choice of what a map shows of many dimensions. @param {number} index */
    axes(index) {
      const { latent_dim: dim, name } = scene.models[index];
      const box = el("span", { class: "axes" }, scales[index]);
      if (dim < 3 || !scene.can.axes) return box;
      const names = Array.from({ length: dim }, (_, i) => `z${i + 1}`);
      names.push(...Array.from({ length: Math.min(dim, 8) }, (_, i) => `pc${i + 1}`));
      const chosen = explorer.state.axes[index] ?? ["z1", "z2"];
      const pair = ["across", "up"].map((way, k) => {
        const select = el("select", {
          "aria-label": `${way}, ${name}`,
          change: () => explorer.turn(index, pair.map((choice) => choice.value)),
        }, ...names.map((text) => el("option", { value: text }, text)));
        select.value = chosen[k];
        return select;
      });
      box.prepend(...pair);
      return box;
    },
    /** Gives the legend the classes' colours. @param {string[]} colours */
    dye(colours) {
      legend.forEach((button, label) => {
        const swatch = /** @type {HTMLElement} */ (button.firstElementChild);
        swatch.style.background = colours[label];
      });
    },
    /** The legend of a figure. @param {number} index @param {[number, number]|null} range */
    scale(index, range) {
      const box = scales[index];
      box.hidden = range === null;
      if (range === null) return;
      const bar = el("span", { class: "gradient" });
      bar.style.background = GRADIENT;
      box.replaceChildren(short(range[0]), bar, `${short(range[1])} nats`);
    },
    choose,
    /** Sets all but a figure to what the address says, and paints nothing. @param {State} state */
    restore(state) {
      if (["class", "none"].includes(state.colour) && explorer.labels) explorer.colour = state.colour;
      colour.value = explorer.colour;
      for (const label of state.hidden) {
        if (!legend[label]) continue;
        legend[label].setAttribute("aria-pressed", "false");
        explorer.hidden.add(label);
      }
      explorer.density = state.density;
      explorer.backdrop = state.backdrop && images;
      explorer.linked = !state.unlinked;
      explorer.edges.on = state.edges && scene.can.edges !== "none";
      for (const [button, on] of /** @type {[HTMLElement, boolean][]} */ ([
        [density, explorer.density], [backdrop, explorer.backdrop], [linked, !state.unlinked],
        [edges, explorer.edges.on],
      ])) {
        button.setAttribute("aria-pressed", String(on));
      }
    },
  };
}

/** Four digits. @param {number} value */
function short(value) {
  return signed(String(Number(value.toPrecision(4))));
}

/** @param {HTMLElement} button */
function pressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}

/**
 * A button that stays pressed.
 * @param {string} id
 * @param {string} text
 * @param {(on: boolean) => Promise<void>} change
 */
function switched(id, text, change) {
  const button = el("button", {
    type: "button", "aria-pressed": "false", "data-switch": id,
    click: async () => {
      button.setAttribute("aria-pressed", String(!pressed(button)));
      await change(pressed(button));
    },
  }, text);
  return button;
}

/** Light or dark, whatever the system prefers. @param {Explorer} explorer */
function theme(explorer) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = el("button", {
    type: "button", "aria-pressed": String(dark.matches),
    click: () => {
      const on = !pressed(button);
      button.setAttribute("aria-pressed", String(on));
      document.documentElement.dataset.theme = on ? "dark" : "light";
      explorer.recolour();
    },
  }, "Dark");
  return button;
}

function help() {
  const keys = [
    ["move the pointer, arrow keys", "decode the point there"],
    ["click, Enter", "start of the interpolation, then its end"],
    ["drag", "move the map, or an end of the interpolation"],
    ["wheel, + and −", "zoom; 0 shows all"],
    ["Shift and drag, or Lasso", "choose a region"],
    ["double click on a class", "show it alone, or all again"],
  ];
  return el("details", { class: "help" }, el("summary", {}, "Keys"),
    el("dl", {}, ...keys.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])));
}
