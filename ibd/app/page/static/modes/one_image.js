// One image: what the model says of it, and what it says when units are set by hand.
//
// The parts live in modes/one_image/*.js. Each exports mount(slot, store, context) and fills one slot; they talk by the
// store alone (store.js): store.get() reads, store.set({...}) changes, store.on([...], listener) listens.
//
//   image     "test:17" | "upload:ID" | null   the current image; set it to go to another one
//   title     what it is called
//   truth     its class by the data, or null
//   edits     {unit name: number}              what was set by hand; change it by change(store, {...}) of state.js,
//                                              which keeps the steps for undo
//   before    the prediction without edits, as /api/runs/{run}/predict says it, or null: label, class, order,
//             probabilities, logits, values, stands (where sliders do), contributions (to the class `label`), edited, moved, details, notes, ...
//   after     the same with the edits, or null where there are none
//   answers   how many have come
//   hovered   number of the unit that the pointer or the focus is on, or null
//   opened    number of the unit whose details are open, or null
//   layer     what is laid over the image: {unit, title} | {explainer, target, names, scale, title}, or null
//   pinned    the map of an explainer that stays on the image, as such a layer, or null
//   opacity   how strongly, from 0 to 1
//
// The slots: choose (look for an image of the data), bring (drop, paste, choose a file), picture, prediction, units,
// unit (what the opened unit looks like), explainers, why, downloads.

import { h } from "../ui.js";
import { makeState } from "./one_image/state.js";
import * as bring from "./one_image/bring.js";
import * as choose from "./one_image/choose.js";
import * as downloads from "./one_image/downloads.js";
import * as explainers from "./one_image/explainers.js";
import * as over from "./one_image/over.js";
import * as picture from "./one_image/picture.js";
import * as prediction from "./one_image/prediction.js";
import * as unit from "./one_image/unit.js";
import * as units from "./one_image/units.js";
import * as why from "./one_image/why.js";

const PARTS = { bring, choose, picture, prediction, units, unit, explainers, why, downloads };

export function mount(root, context) {
  const store = makeState(context);
  const slots = Object.fromEntries(Object.keys(PARTS).map((name) => [name, h("section", { class: `slot ${name}` })]));
  root.append(
    h("h1", {}, "One image"),
    h("div.first", {}, slots.bring, slots.choose),
    h("div.columns", {},
      h("div.left", {}, slots.picture, slots.prediction),
      h("div.right", {}, slots.units, slots.unit),
      h("div.more-of-it", {}, slots.explainers, slots.why, slots.downloads)),
  );
  const leave = Object.entries(PARTS).map(([name, part]) => part.mount(slots[name], store, context));
  leave.push(over.mount(slots.picture, store, context));
  context.onParameters = store.follow;
  store.start();
  return () => leave.forEach((end) => end?.());
}
