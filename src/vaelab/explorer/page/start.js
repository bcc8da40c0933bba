// Begins the page where it is to stand; what fails is said there.

import { mount } from "vaelab/explorer.js";

/** @param {() => Promise<import("vaelab/types.js").Backend>} connect */
export async function start(connect) {
  const root = document.getElementById("explorer");
  if (!root) return;
  try {
    await mount(root, await connect());
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const line = document.createElement("p");
    line.setAttribute("role", "alert");
    line.textContent = text;
    root.replaceChildren(line);
  }
}
