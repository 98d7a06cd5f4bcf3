// What the opened unit looks like in training data: the images in which it is highest, and the patch that a prototype is.

import { get, runPath } from "../../api.js";
import { h } from "../../ui.js";
import { frame, progress, until } from "./waiting.js";

export function mount(slot, store, context) {
  let waiting = new AbortController();
  slot.hidden = true;
  slot.setAttribute("aria-live", "polite");
  slot.setAttribute("aria-label", "what the opened unit looks like in training data");
  const end = store.on(["opened"], show);
  return () => { waiting.abort(); end(); };

  async function show({ opened }) {
    waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    slot.hidden = opened == null;
    slot.replaceChildren();
    if (opened == null) return;
    const name = context.info.names[opened];
    const body = h("div");
    slot.append(
      h("div.head", {}, h("h2", {}, name), h("button.small", { type: "button", onclick: close }, "Close")),
      h("p.quiet", {}, "What it looks like in the training images: those in which it is highest."), body);
    try {
      const answer = await until(
        () => get(runPath(context.run.key, "examples", { unit: opened })),
        (work) => body.replaceChildren(progress(work)), signal);
      if (answer) body.replaceChildren(gallery(answer), h("p.quiet", {}, answer.note), h("p.quiet", {}, `Took ${answer.passes}.`));
    } catch (error) {
      if (!signal.aborted) body.replaceChildren(h("p.quiet", {}, error.message));
    }
  }

  function close() {
    const { opened } = store.get();
    store.set({ opened: null });
    document.querySelector(`[data-unit="${opened}"]`)?.focus();
  }

  function gallery({ examples, name }) {
    return h("ul.examples", {}, examples.map((example) => h("li", { class: example.source ? "source" : "" },
      h("div.pair", {},
        h("span.stage", {}, h("img", { src: example.picture, alt: `training image ${example.title}` }), frame(example.box)),
        h("span.stage", {}, h("img", { src: example.map, alt: `where ${name} is in it` }), frame(example.box))),
      example.source && h("strong", {}, "The patch that it is"),
      h("span", {}, `${example.class}: ${example.value}`),
      example.truth != null && h("span.quiet", {}, `annotated ${example.truth}`),
      h("span.quiet.name", { title: example.title }, example.title))));
  }
}
