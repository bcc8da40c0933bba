// The shapes that the modules of this page pass to each other; types only, nothing runs here.

/** @typedef {{name: string, latent_dim: number, shape: number[], standard_prior: boolean}} ModelInfo */
/** @typedef {{label: number, name: string, count: number, colour: string}} ClassInfo */
/** @typedef {{name: string, count: number}} Split */
/**
 * What a backend can do.
 * @typedef {{upload: boolean, geodesic: boolean, gif: boolean, axes: boolean,
 *   edges: "all"|"some"|"none", hover: "all"|"some"|"none", decode: "exact"|"lattice"}} Abilities
 */
/**
 * What is shown: data, training then test, and the models that map them.
 * @typedef {{title: string, note: string, count: number, shape: number[], range: [number, number],
 *   classes: ClassInfo[], splits: Split[], models: ModelInfo[], figures: string[],
 *   can: Abilities}} Scene
 */
/** @typedef {Uint8Array|Float32Array} Pixels */
/**
 * How a model's codes are laid on the map: u_k = ⟨z − origin, basis_k⟩.
 * @typedef {{names: string[], origin: Float32Array, basis: Float32Array[],
 *   points: Float32Array}} View
 */
/**
 * A datum's place in one model; `image` is its reconstruction.
 * @typedef {{z: Float32Array, scale: Float32Array, image: Pixels, elbo: number|null,
 *   rate: number|null, distortion: number|null}} Placed
 */
/**
 * @typedef {{split: string, row: number, label: number|null, image: Pixels|null,
 *   models: Placed[]}} Datum
 */
/**
 * Where a picture of the person's own lands; `reference` is log p(x) of test data, in order.
 * @typedef {{image: Pixels, models: {z: Float32Array, scale: Float32Array, image: Pixels,
 *   elbo: number, log_p: number, elbo_rank: number, log_p_rank: number, reference: Float32Array}[]}} Placement
 */
/**
 * Where the page gets everything from: `Live` asks a server, `Still` has it in the page.
 * @typedef {object} Backend
 * @property {Scene} scene
 * @property {() => Promise<Uint16Array|null>} labels
 * @property {(model: number, axes: string[]) => Promise<View>} view
 * @property {(model: number, name: string) => Promise<Float32Array>} figure
 * @property {() => Promise<{ends: Uint32Array, each: number}>} edges two ends an edge, the strongest
 *   first; if `each` is not 0, only so many of each datum
 * @property {(model: number, z: Float32Array) => Promise<Pixels>} decode
 * @property {(model: number, indices: ArrayLike<number>) =>
 *   Promise<{loc: Float32Array, scale: Float32Array}>} codes
 * @property {(indices: ArrayLike<number>) => Promise<Pixels>} images
 * @property {(index: number) => Promise<Datum>} datum
 * @property {(model: number, z: Float32Array, count: number) =>
 *   Promise<{indices: Int32Array, distances: Float32Array}>} nearest
 * @property {(model: number, start: Float32Array, end: Float32Array, steps: number,
 *   kind: string) => Promise<{z: Float32Array, length: number, straight: number}>} path
 * @property {(indices: ArrayLike<number>) => Promise<Pixels>} mean
 * @property {(blob: Blob, options: {invert: boolean}) => Promise<Placement>} place
 * @property {(model: number, z: Float32Array) => Promise<Blob>} gif
 * @property {(line: string) => void} [onlost] set by the page: called when it gets no more answers
 * @property {() => void} [onback] set by the page: called when it gets answers again
 */

export {};
