// All units of the model, to be read and set by hand.

import { h, plain } from "../../ui.js";
import { change, endGesture } from "./state.js";

export function mount(slot, store, context) {
  const { names, controls } = context.info;
  store.on(["before", "after"], ({ before, after }) => {
    slot.replaceChildren();
    if (!before) return;
    const now = after ?? before;
    slot.append(h("h2", {}, context.info.kinds), h("ul", {}, names.map((name, unit) => h("li", {},
      name, " ", plain(now.values[unit]), " ",
      controls[unit].set !== "fixed" && h("input", {
        type: "range", min: controls[unit].least ?? 0, max: controls[unit].most ?? 2, step: "any", value: now.values[unit],
        "aria-label": name,
        onchange: (event) => { change(store, { ...store.get().edits, [name]: Number(event.target.value) }); endGesture(store); },
      })))));
  });
}
