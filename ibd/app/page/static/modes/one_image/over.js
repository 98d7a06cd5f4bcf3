// What is laid over the image: the map of the unit under the pointer or the focus, else of an explainer, else of the
// unit that is open. The store's `layer` says which: {unit} or {explainer, ...}, or null; `opacity` how strongly.

import { get, latest, runPath } from "../../api.js";
import { h } from "../../ui.js";
import { frame } from "./waiting.js";

const REST = 60; // milliseconds that the pointer rests on a unit before it is asked for

export function mount(slot, store, context) {
  const over = slot.querySelector(".over");
  const known = new Map();
  let timer = null, drawn = null;
  const note = h("p.quiet.map-note");
  const range = h("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: 0.75, id: "opacity",
    oninput: () => store.set({ opacity: Number(range.value) }),
  });
  const words = h("output", { for: "opacity" }, "75 %");
  slot.append(h("div.controls.opacity", {}, h("label", { for: "opacity" }, "Map opacity "), range, words), note);
  store.set({ opacity: 0.75, layer: null, pinned: null });

  const ask = latest(
    ({ image, unit }) => get(runPath(context.run.key, "unit", { image, unit })),
    (answer, { image, unit }) => {
      if (known.size > 300) known.clear();
      known.set(`${image} ${unit}`, answer);
      draw();
    },
    (error) => context.alert(error),
  );

  function wanted() {
    const { hovered, opened, pinned } = store.get();
    if (hovered != null) return { unit: hovered };
    if (pinned) return pinned;
    return opened == null ? null : { unit: opened };
  }

  /** Write the note. Its room never shrinks: what is below would move away from under a pointer that is pressed. */
  function write(text) {
    note.style.minHeight = `${note.offsetHeight}px`;
    note.textContent = text;
  }

  function draw() {
    const { image, opacity } = store.get(), layer = image ? wanted() : null;
    words.textContent = `${Math.round(100 * opacity)} %`;
    if (!layer) return clear();
    const found = layer.picture ? layer : known.get(`${image} ${layer.unit}`);
    if (!found) {
      if (drawn !== image) clear(); // the map of another image, until this one's is there, would be taken for its own
      clearTimeout(timer);
      timer = setTimeout(() => { if (wanted()?.unit === layer.unit) ask({ image, unit: layer.unit }); }, REST);
      return undefined;
    }
    const title = found.title ?? `the model's own map of ${found.name}`;
    drawn = image;
    over.replaceChildren(
      h("img.base", { src: runPath(context.run.key, "gray", { image }), alt: "" }),
      h("img.layer", { src: found.picture, alt: title, style: { opacity } }), frame(found.box) ?? "");
    write(`${title.charAt(0).toUpperCase()}${title.slice(1)}. ${found.note}`);
    store.set({ layer: layer.picture ? layer : { unit: layer.unit, title } });
    return undefined;
  }

  function clear() {
    clearTimeout(timer);
    over.replaceChildren();
    write("");
    store.set({ layer: null });
  }

  const ends = [
    store.on(["image"], () => { note.style.minHeight = ""; store.set({ pinned: null, hovered: null }); draw(); }),
    store.on(["hovered", "opened", "pinned", "opacity"], draw),
  ];
  return () => { clearTimeout(timer); ends.forEach((end) => end()); };
}
