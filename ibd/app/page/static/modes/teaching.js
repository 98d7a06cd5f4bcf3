// Teaching mode.

import { h } from "../ui.js";

export function mount(root, context) {
  root.append(h("h1", {}, "Teaching"));
}
