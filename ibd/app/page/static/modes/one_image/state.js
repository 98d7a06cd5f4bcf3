// The state of the one-image mode: which image, what was set by hand, what the model says, and the steps to undo.

import { latest, post, runPath } from "../../api.js";
import { makeStore } from "../../store.js";

const steps = new WeakMap(); // store -> {back: [edits], forth: [edits]}

export function makeState(context) {
  const store = makeStore({
    image: null, title: "", truth: null, edits: {}, before: null, after: null, hovered: null, opened: null, took: null,
    undoable: false, redoable: false,
  });
  steps.set(store, { back: [], forth: [] });

  const ask = latest(
    ({ image, edits }) => post(runPath(context.run.key, "predict"), { image, edits }),
    (answer, { image, asked }) => {
      if (image !== store.get().image) return;
      context.alert(null);
      const { title, truth, before, after } = answer;
      store.set({ title, truth, before, after, took: performance.now() - asked });
    },
    (error) => {
      context.alert(error);
      const { image, before } = store.get();
      if (!before && image && error.status !== 400) store.set({ image: null });
      else if (before) undo(store);
    },
  );
  const again = () => {
    const { image, edits } = store.get();
    if (image) ask({ image, edits, asked: performance.now() });
  };
  store.on(["image"], ({ image }) => {
    steps.set(store, { back: [], forth: [] });
    store.set({ edits: {}, before: null, after: null, title: "", truth: null, undoable: false, redoable: false });
    context.go({ parameters: { ...context.parameters, image } });
    again();
  });
  store.on(["edits"], again);
  store.start = () => store.set({ image: context.parameters.image ?? null });
  return store;
}

/**
 * Set what was set by hand. Several calls of the same `gesture` (a slider that is dragged) are one step for undo.
 */
export function change(store, edits, gesture = null) {
  const { back } = steps.get(store);
  const last = back[back.length - 1];
  if (!gesture || last?.gesture !== gesture) back.push({ edits: store.get().edits, gesture });
  steps.get(store).forth = [];
  tell(store, edits);
}

/** End a gesture: the next change is a step of its own. */
export function endGesture(store) {
  const { back } = steps.get(store);
  if (back.length) back[back.length - 1].gesture = null;
}

export function undo(store) {
  const { back, forth } = steps.get(store);
  if (!back.length) return;
  forth.push({ edits: store.get().edits, gesture: null });
  tell(store, back.pop().edits);
}

export function redo(store) {
  const { back, forth } = steps.get(store);
  if (!forth.length) return;
  back.push({ edits: store.get().edits, gesture: null });
  tell(store, forth.pop().edits);
}

function tell(store, edits) {
  const { back, forth } = steps.get(store);
  store.set({ edits, undoable: back.length > 0, redoable: forth.length > 0 });
}
