// What the opened unit looks like in training data: the images in which it is highest, and the patch that a prototype is.

import { get, runPath } from "../../api.js";
import { h, say } from "../../ui.js";
import { frame, progress, until } from "./waiting.js";

export function mount(slot, store, context) {
  let waiting = new AbortController();
  const panel = h("div.looks", { role: "region" }); // it opens inside of the unit's row
  slot.hidden = true;
  const end = store.on(["opened"], show);
  return () => { waiting.abort(); end(); };

  async function show({ opened }) {
    waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    panel.remove();
    const row = opened == null ? null : document.querySelector(`[data-unit="${opened}"]`);
    if (!row) return;
    const name = context.info.names[opened], body = h("div");
    panel.setAttribute("aria-label", `${name} in the training images`);
    panel.replaceChildren(
      h("div.head", {}, h("span.quiet", {}, "Where it is highest in the training images"),
        h("button.small", { type: "button", onclick: close, "aria-label": `Close ${name}` }, "Close")), body);
    row.append(panel);
    try {
      const answer = await until(
        () => get(runPath(context.run.key, "examples", { unit: opened })),
        (work) => body.replaceChildren(progress(work)), signal);
      if (!answer) return;
      body.replaceChildren(gallery(answer), h("p.quiet", {}, answer.note), h("p.quiet", {}, `Took ${answer.passes}.`));
      panel.scrollIntoView({ block: "nearest" });
      say(`${answer.examples.length} training images of ${name}`);
    } catch (error) {
      if (!signal.aborted) body.replaceChildren(h("p.quiet", {}, error.message));
    }
  }

  function close() {
    const { opened } = store.get();
    store.set({ opened: null });
    document.querySelector(`[data-unit="${opened}"] .name`)?.focus();
  }

  function gallery({ examples, name }) {
    return h("ul.examples", {}, examples.map((example) => h("li", { class: example.source ? "source" : "" },
      h("div.pair", {},
        h("span.stage", {}, h("img", { src: example.picture, alt: `training image ${example.title}` }), frame(example.box)),
        h("span.stage", {}, h("img", { src: example.map, alt: `where ${name} is in it` }), frame(example.box))),
      example.source && h("strong", {}, "The patch that it is"),
      h("span", {}, `${example.class}: ${example.value}`),
      example.truth != null && h("span.quiet", {}, `annotated ${example.truth}`),
      h("span.quiet.file", { title: example.title }, example.title))));
  }
}
