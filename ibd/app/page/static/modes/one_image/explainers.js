// Maps of explainers for a class or unit, side by side with the model's own map, on one scale.

import { get, post, runPath } from "../../api.js";
import { h, say } from "../../ui.js";
import { named, progress, tab, until } from "./waiting.js";

const FIRST = ["intrinsic", "gradcam", "lrp"]; // shown first, where they fit
const MOST = 12, EVERY = 250;

export function mount(slot, store, context) {
  let waiting = new AbortController(), listed = null, timer = null, busy = false, again = false, gone = false;
  const chosen = new Set();
  const target = h("select", { id: "target", onchange: ask });
  const scale = h("select", { id: "scale", onchange: ask },
    h("option", { value: "one" }, "one for all"), h("option", { value: "own" }, "each its own"));
  const list = h("div"), maps = h("ul.maps"), about = h("p.quiet");
  const fold = h("details", { ontoggle: () => { if (fold.open) open(); else giveUp(); } },
    h("summary", {}, "Where it looked, by explainers"),
    h("div.controls", {}, named("Of", target), named("Scale", scale)), about, list, maps);
  slot.append(fold);
  slot.hidden = true;

  const ends = [
    store.on(["image"], ({ image }) => { slot.hidden = !image; maps.replaceChildren(); }),
    store.on(["before", "opened"], () => { if (fill() && fold.open) open(); }),
    store.on(["edits", "opacity", "pinned"], () => { explain(); fade(); }),
  ];
  return () => { gone = true; waiting.abort(); giveUp(); ends.forEach((end) => end()); };

  /** Fill in what can be asked about; return whether there is an image. */
  function fill() {
    const { before, opened } = store.get();
    if (!before) return false;
    const value = target.value, { classes, names } = context.info;
    const predicted = h("option", { value: "" }, `the predicted class, ${before.class}`);
    const unit = opened == null ? null : h("optgroup", { label: context.info.kind }, h("option", { value: `unit:${opened}` }, names[opened]));
    target.replaceChildren(predicted, ...(unit ? [unit] : []),
      h("optgroup", { label: "class" }, classes.map((name, index) => h("option", { value: `class:${index}` }, name))));
    target.value = [...target.options].some((option) => option.value === value) ? value : "";
    explain();
    return true;
  }

  function explain() {
    const corrected = Object.keys(store.get().edits).length > 0;
    const one = "On one scale a pixel is as strong as its share of all that its map holds: sharp maps are strong, wide ones pale.";
    const own = "Full strength is the 99th percentile of each map.";
    about.textContent = `Red speaks for it, blue against it. ${scale.value === "one" ? one : own}`
      + (corrected ? " They are about the image as the model saw it: what was set by hand does not change them." : "");
  }

  async function open() {
    const { image, before } = store.get();
    if (!image || !before) return;
    if (listed) return ask();
    waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    try {
      const answer = await until(() => get(runPath(context.run.key, "explainers", { image })), (work) => list.replaceChildren(progress(work)), signal);
      if (!answer) return;
      listed = answer.explainers;
      for (const { name, why_not } of listed) if (!why_not && FIRST.includes(name)) chosen.add(name);
      list.replaceChildren(choice());
      ask();
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(h("p.quiet", {}, error.message));
    }
  }

  function choice() {
    const fitting = listed.filter((each) => !each.why_not), others = listed.filter((each) => each.why_not);
    return h("div", {},
      h("details.pick", {}, h("summary", {}, `Choose among ${fitting.length} explainers`),
        h("fieldset", {}, h("legend.hidden", {}, "Explainers"), fitting.map((each) => h("div.explainer", {},
          h("label", {}, h("input", {
            type: "checkbox", checked: chosen.has(each.name), "aria-describedby": `says-${each.name}`,
            onchange: (event) => pick(each.name, event.target),
          }), " ", titled(each.name, each.kind)), h("p.quiet", { id: `says-${each.name}` }, each.says))))),
      others.length > 0 && h("details.pick", {}, h("summary", {}, `${others.length} do not fit this model`),
        h("dl", {}, others.map((each) => [h("dt", {}, each.name), h("dd.quiet", {}, each.why_not)]))));
  }

  function pick(name, box) {
    if (box.checked && chosen.size >= MOST) box.checked = false;
    else if (box.checked) chosen.add(name);
    else chosen.delete(name);
    ask();
  }

  async function ask() {
    clearTimeout(timer);
    explain();
    if (busy) { again = true; return; }
    const { image, before } = store.get();
    if (!image || !before || !listed || !fold.open || gone) return;
    const names = listed.map((each) => each.name).filter((name) => chosen.has(name));
    const asked = { image, target: target.value || `class:${before.label}`, names, scale: scale.value, tab };
    busy = true;
    try {
      const { rows } = await post(runPath(context.run.key, "explanations"), asked);
      if (image === store.get().image && !again) {
        show(rows, asked);
        if (rows.some((row) => row.work)) timer = setTimeout(ask, EVERY);
        else if (rows.length) say("The maps are there.");
      }
    } catch (error) {
      context.alert(error);
    }
    busy = false;
    if (again) { again = false; ask(); }
  }

  /** Let the server end what nobody looks at any more. */
  function giveUp() {
    clearTimeout(timer);
    const { image } = store.get();
    if (image && listed && maps.querySelector(".working")) {
      post(runPath(context.run.key, "explanations"), { image, target: "class:0", names: [], tab }).catch(() => {});
      maps.replaceChildren();
    }
  }

  function show(rows, asked) {
    const focused = document.activeElement?.dataset?.key;
    maps.replaceChildren(...rows.map((row) => item(row, asked)));
    if (focused) maps.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    fade();
  }

  function item(row, asked) {
    const title = titled(row.name, row.kind ?? listed.find((each) => each.name === row.name).kind);
    const cancel = h("button.small", { type: "button", "data-key": `cancel ${row.name}`, onclick: () => stop(row.name) }, `Cancel ${row.name}`);
    if (row.error) return h("li", {}, h("strong", {}, title), h("p.quiet", {}, row.error));
    if (row.work) return h("li", {}, h("strong", {}, title), progress({ ...row.work, title: row.work.done ? "passes so far" : "waiting" }), cancel);
    if (!row.picture) return h("li", {}, h("strong", {}, title));
    const words = `the map of ${row.name} for ${target.selectedOptions[0].textContent}`;
    const layer = { explainer: row.name, ...asked, picture: row.picture, title: words, note: about.textContent };
    return h("li", {}, h("strong", {}, title),
      h("span.stage", {}, h("img", { src: runPath(context.run.key, "gray", { image: asked.image }), alt: "" }),
        h("span.over", {}, h("img.layer", { src: row.picture, alt: words }))),
      h("span.quiet", {}, row.cost, row.layer ? `; by ${row.layer}` : ""),
      row.remarks.map((line) => h("p.remark", {}, line)),
      h("button.small.on-image", {
        type: "button", "data-key": `pin ${row.name}`, "data-name": row.name,
        onclick: () => store.set({ pinned: store.get().pinned?.explainer === row.name ? null : layer }),
      }, "On the image"));
  }

  function stop(name) {
    chosen.delete(name);
    list.replaceChildren(choice());
    ask();
  }

  /** Bring opacity, and which map is on the image, up to date. */
  function fade() {
    const { opacity, pinned } = store.get();
    for (const layer of maps.querySelectorAll(".layer")) layer.style.opacity = opacity;
    for (const button of maps.querySelectorAll(".on-image")) button.setAttribute("aria-pressed", String(pinned?.explainer === button.dataset.name));
  }
}

const titled = (name, kind) => (kind === "intrinsic" ? `the model's own map (${name})` : name);
