// The data set: all images of a split with what the model says of them, where it is wrong, and thresholds.
//
// The address holds what is shown, so that a link, a reload and the back button find it again:
//   #/RUN/data?view=images&split=test&truth=a&predicted=b...     see data_set/images.js for the filters
// The views live in data_set/*.js. Each exports mount(slot, context, change, state), with the split and its concepts in
// `state`, which returns an object with
//   update(parameters)   called when the address changes
//   leave()              called before it goes; may be missing
// `change({key: value})` changes the address in place, without a step of the back button; null takes a key away.

import { SPLITS, h } from "../ui.js";
import * as confusion from "./data_set/confusion.js";
import * as figures from "./data_set/figures.js";
import * as images from "./data_set/images.js";
import * as thresholds from "./data_set/thresholds.js";
import { readSplit } from "./data_set/reading.js";

const VIEWS = {
  images: { title: "Images", view: images },
  confusion: { title: "Confusions", view: confusion },
  figures: { title: "Figures", view: figures },
  thresholds: { title: "Thresholds", view: thresholds },
};

export function mount(root, context) {
  addStyle();
  const split = h("select", { id: "split", onchange: () => change({ split: split.value, page: null }) },
    Object.entries(SPLITS).map(([name, said]) => h("option", { value: name }, said)));
  const choice = h("label", {}, "Images of the split ", split);
  const tabs = h("nav.tabs", { "aria-label": "Views of the data set" });
  const slot = h("div.view", {});
  root.append(h("h1", {}, "Data set"), h("div.tools", {}, tabs, choice), slot);
  let shown = null, key = "", reading = null;

  function change(changes) {
    context.parameters = kept({ ...context.parameters, ...changes });
    context.go({ parameters: context.parameters }, { replace: true });
    show();
  }

  function frame(view, name) {
    split.value = name;
    choice.hidden = view === "thresholds"; // these are set on validation images, whatever is looked at
    tabs.replaceChildren(...Object.entries(VIEWS).map(([each, { title }]) => h("a", {
      href: context.link({ parameters: each === view ? context.parameters : kept({ view: each, split: context.parameters.split }) }),
      "aria-current": each === view ? "page" : null,
    }, title)));
  }

  async function show() {
    const view = VIEWS[context.parameters.view] ? context.parameters.view : "images";
    const name = view === "thresholds" ? "val" : context.parameters.split in SPLITS ? context.parameters.split : "test";
    frame(view, name);
    if (shown && key === `${view} ${name}`) return shown.update(context.parameters);
    key = `${view} ${name}`;
    shown?.leave?.();
    shown = null;
    reading?.abort();
    const mine = reading = new AbortController();
    try {
      const state = await readSplit(slot, context, name, mine.signal);
      if (mine.signal.aborted) return undefined;
      slot.replaceChildren();
      shown = VIEWS[view].view.mount(slot, context, change, state);
      return shown.update(context.parameters);
    } catch (error) {
      if (!mine.signal.aborted) {
        key = "";
        slot.replaceChildren();
        context.alert(error);
      }
      return undefined;
    }
  }

  context.onParameters = show;
  show();
  return () => {
    reading?.abort();
    shown?.leave?.();
  };
}

/** Parameters without those that say nothing. */
function kept(parameters) {
  return Object.fromEntries(Object.entries(parameters).filter(([, value]) => value != null && value !== ""));
}

function addStyle() {
  const href = new URL("./data_set/data_set.css", import.meta.url).href;
  if (![...document.styleSheets].some((sheet) => sheet.href === href)) document.head.append(h("link", { rel: "stylesheet", href }));
}
