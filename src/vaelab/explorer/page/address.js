// What the page shows, kept in its address, so that a view can be shared.

/** @typedef {import("vaelab/explorer.js").Explorer} Explorer */
/**
 * @typedef {{z: number[]|null, ends: (number[]|null)[], model: number, colour: string,
 *   hidden: number[], density: boolean, edges: boolean, backdrop: boolean, unlinked: boolean,
 *   views: (number[]|null)[], axes: (string[]|null)[], kind: string, steps: number}} State
 */

/** What the address says; whatever it does not say, or says wrongly, is as at the start. */
/** @returns {State} */
export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const views = [];
  const axes = [];
  for (let i = 0; i < 16; i++) {
    const view = numbers(given.get(`view${i}`));
    views.push(view && view.length === 3 && view[2] > 0 ? view : null);
    const pair = given.get(`axes${i}`)?.split(",") ?? [];
    axes.push(pair.length === 2 && pair.every((name) => /^(z|pc)\d+$/.test(name)) ? pair : null);
  }
  return {
    z: numbers(given.get("z")),
    ends: ["start", "end"].map((name) => numbers(given.get(name))),
    model: Number(given.get("model")) || 0,
    colour: given.get("colour") ?? "",
    hidden: numbers(given.get("hidden")) ?? [],
    density: given.has("density"),
    edges: given.has("edges"),
    backdrop: given.has("backdrop"),
    unlinked: given.has("unlinked"),
    views,
    axes,
    kind: given.get("path") ?? "straight",
    steps: Number(given.get("steps")) || 11,
  };
}

/** Writes what is shown into the address. @param {Explorer} explorer */
export function write(explorer) {
  const said = new URLSearchParams();
  const active = explorer.models[explorer.active];
  said.set("z", brief(active.z));
  explorer.strip.describe(said);
  said.set("colour", explorer.colour);
  if (explorer.hidden.size) said.set("hidden", [...explorer.hidden].join());
  if (explorer.density) said.set("density", "");
  if (explorer.edges.on) said.set("edges", "");
  if (explorer.backdrop) said.set("backdrop", "");
  if (!explorer.linked) said.set("unlinked", "");
  for (const { index, map, axes, dim } of explorer.models) {
    said.set(`view${index}`, brief([...map.centre, map.scale]));
    if (dim > 2) said.set(`axes${index}`, axes.join());
  }
  history.replaceState(null, "", `#${decodeURIComponent(said.toString())}`);
}

/** @param {ArrayLike<number>} values */
export function brief(values) {
  return Array.from(values, (value) => Number(value.toPrecision(6))).join();
}

/** @param {string|null} text */
function numbers(text) {
  if (!text) return null;
  const values = text.split(",").map(Number);
  return values.every(Number.isFinite) ? values : null;
}
