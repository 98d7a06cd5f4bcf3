// Choosing an image of the data set: the wrong ones first, then the least sure.

import { get, runPath } from "../../api.js";
import { h, percent, say } from "../../ui.js";
import { named, progress, until } from "./waiting.js";

const AT_ONCE = 24;
const READ_UNASKED = 2000; // images of a split, whose pass takes seconds

export function mount(slot, store, context) {
  let waiting = new AbortController(), rows = [];
  const split = h("select", { id: "split", onchange: () => load() },
    ["test", "val", "train"].map((name) => h("option", { value: name }, name)));
  const only = h("input", { type: "checkbox", id: "only-wrong", onchange: () => load() });
  const said = h("div.said-of-split");
  const strip = h("ul.strip", { "aria-label": "images of the data set" });
  const body = h("div", {},
    h("div.controls", {}, named("Split", split), h("label", {}, only, " wrong ones only")), said, strip);
  const fold = h("details.choose-fold", { ontoggle: () => { if (fold.open && !rows.length) load(); } },
    h("summary", {}, "Choose an image of the data set"), body);
  slot.append(fold);

  const listen = store.on(["image"], mark);
  if (!context.parameters.image) fold.open = true;
  return () => { waiting.abort(); listen(); };

  async function load(start = 0, asked = false) {
    waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    const address = (read) => runPath(context.run.key, "images", {
      split: split.value, start, count: AT_ONCE, only: only.checked ? "wrong" : "all", read,
    });
    if (!start) { rows = []; strip.replaceChildren(); }
    try {
      const first = await get(address(0));
      if (signal.aborted) return;
      if (!first.ready && first.of > READ_UNASKED && !asked) {
        said.replaceChildren(h("button", { type: "button", onclick: () => load(0, true) },
          `Read the ${first.of} ${split.value} images`), " ", h("span.quiet", {}, "one pass of the model over them, to know which are wrong"));
        return;
      }
      const answer = first.ready ? first : await until(() => get(address(1)), (work) => said.replaceChildren(progress(work)), signal);
      if (answer) show(answer, start);
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(h("p.quiet", {}, error.message));
    }
  }

  function show(answer, start) {
    const part = answer.read < answer.of ? `${answer.read} of ${answer.of}` : `${answer.of}`;
    const took = answer.seconds == null ? "" : `; one pass in ${answer.seconds.toFixed(1)} s`;
    said.replaceChildren(h("p.quiet", {}, `${part} ${split.value} images, ${answer.wrong} wrong: these first, then the least sure${took}`));
    const focus = document.activeElement?.classList.contains("more");
    strip.querySelector(".more-item")?.remove();
    rows = [...rows, ...answer.rows];
    strip.append(...answer.rows.map(item));
    const left = answer.total - rows.length;
    if (left > 0) strip.append(h("li.more-item", {}, h("button.more", { type: "button", onclick: () => load(rows.length) }, `${Math.min(left, AT_ONCE)} more`)));
    if (focus) strip.children[start]?.querySelector("button")?.focus();
    mark();
    say(`${rows.length} of ${answer.total} images are shown`);
  }

  function item(row) {
    const verdict = row.abstains ? "no answer" : row.wrong ? `taken for ${row.predicted}` : "right";
    return h("li", {}, h("button.thumb", {
      type: "button", "data-image": row.image, class: row.wrong ? "wrong" : "",
      title: row.title,
      onclick: () => { store.set({ image: row.image }); say(`${row.truth}, ${verdict}`); },
    },
    h("img", { src: runPath(context.run.key, "data/thumbnail", { image: row.image }), alt: "", loading: "lazy", width: 84, height: 84 }),
    h("span.truth", {}, row.truth), h("span.verdict", {}, `${verdict} ${percent(row.confidence).replace(" ", "\u00a0")}`)));
  }

  function mark() {
    for (const button of strip.querySelectorAll(".thumb")) {
      if (button.dataset.image === store.get().image) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}
