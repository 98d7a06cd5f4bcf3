// The prediction, before and after.

import { bar, h, percent } from "../../ui.js";

export function mount(slot, store, context) {
  slot.setAttribute("aria-live", "polite");
  store.on(["before", "after"], ({ before, after }) => {
    slot.replaceChildren();
    if (!before) return;
    slot.append(h("h2", {}, "Prediction"), one(before, after ? "before" : ""));
    if (after) slot.append(one(after, "after"));
  });

  function one(said, title) {
    const rows = said.order.slice(0, 5).map((index) =>
      h("tr", {}, h("th", { scope: "row" }, context.info.classes[index]), h("td", {}, bar(said.probabilities[index])),
        h("td.number", {}, percent(said.probabilities[index]))));
    return h("table", {}, title && h("caption", {}, title), h("tbody", {}, rows));
  }
}
