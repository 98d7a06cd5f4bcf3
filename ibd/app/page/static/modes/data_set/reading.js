// A split is read once by the model; until then a bar says how far that is.

import { get, runPath } from "../../api.js";
import { h, say } from "../../ui.js";

const WAIT = 400; // milliseconds between two questions

/** What the server says of a split of the run, once it has been read. */
export async function readSplit(slot, context, split, signal) {
  let bar = null;
  for (;;) {
    const state = await get(runPath(context.run.key, "data/state", { split }), { signal });
    if (state.ready) {
      if (bar) say("Read.");
      return state;
    }
    if (state.error) throw new Error(state.error);
    if (!bar) {
      bar = h("progress", { "aria-label": state.title });
      slot.replaceChildren(h("p.reading", {}, `The model is ${state.title} `, bar, " ", h("span.quiet", {})));
      say(`The model is ${state.title}.`);
    }
    if (state.total) Object.assign(bar, { max: state.total, value: state.done });
    bar.nextElementSibling.textContent = state.total ? `${state.done} of ${state.total}` : "";
    await new Promise((resolve) => setTimeout(resolve, WAIT));
    signal.throwIfAborted();
  }
}

/** Get something of the data set of the run. */
export const ask = (context, path, parameters, options) => get(runPath(context.run.key, `data/${path}`, parameters), options);
