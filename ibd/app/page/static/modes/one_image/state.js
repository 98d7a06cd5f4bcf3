// The state of the one-image mode: which image, what was set by hand, what the model says, and the steps to undo.

import { latest, post, runPath } from "../../api.js";
import { makeStore } from "../../store.js";

const steps = new WeakMap(); // store -> {back: [{edits, gesture}], forth: [{edits}], accepted: edits}
const fresh = (edits = {}) => ({ back: [], forth: [], accepted: edits });
const NOTHING = Object.freeze({});

export function makeState(context) {
  const store = makeStore({
    image: null, title: "", truth: null, edits: NOTHING, target: null, before: null, after: null,
    hovered: null, opened: null, undoable: false, redoable: false, refused: null, answers: 0,
  });
  steps.set(store, fresh());

  const ask = latest(
    (wanted) => post(runPath(context.run.key, "predict"), wanted),
    (answer, { image, edits }) => {
      if (image !== store.get().image) return;
      steps.get(store).accepted = edits;
      const { title, truth, before, after } = answer;
      store.set({ title, truth, before: before ?? store.get().before, after, answers: store.get().answers + 1 });
      remember(store, context);
    },
    (error, { image }) => {
      if (image !== store.get().image) return;
      context.alert(error);
      if (store.get().before && error.status === 400) refuse(store, error);
      else if (!store.get().before) store.set({ image: null });
    },
    { all: true },
  );
  const again = () => {
    const { image, edits, target, before } = store.get();
    if (image) ask({ image, edits, target, before: !before || before.target !== (target ?? before.label) });
  };
  store.on(["image"], ({ image }) => {
    if (image) context.alert(null); // it is about the image before
    const edits = (image && image === context.parameters.image && given(context.parameters.edits)) || NOTHING;
    steps.set(store, fresh());
    store.set({ edits, before: null, after: null, title: "", truth: null, undoable: false, redoable: false, refused: null });
    if (context.parameters.image !== image) context.go({ parameters: { image } });
    again();
  });
  store.on(["edits", "target"], () => { if (store.get().before) again(); });
  store.on(["refused"], ({ refused }) => { if (!refused) context.alert(null); });
  store.start = () => store.set({ image: context.parameters.image ?? null });
  store.follow = ({ image = null, edits }) => {
    if (image !== store.get().image) return store.set({ image });
    const wanted = given(edits) ?? NOTHING;
    if (!image || JSON.stringify(wanted) === JSON.stringify(store.get().edits)) return undefined;
    change(store, wanted);
    if (!store.get().before) again(); // the question that is under way is of other corrections
    return undefined;
  };
  return store;
}

/** The edits in the address, so that reloading the page keeps them. */
function given(text) {
  try {
    const edits = JSON.parse(text);
    return edits && typeof edits === "object" && !Array.isArray(edits) ? edits : null;
  } catch {
    return null;
  }
}

let waiting = null;
function remember(store, context) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const { image, edits } = store.get();
    if (image !== context.parameters.image) return;
    const text = Object.keys(edits).length ? JSON.stringify(edits) : null;
    context.go({ parameters: { image, edits: text?.length < 4000 ? text : null } }, { replace: true });
  }, 400);
}

/**
 * Set what was set by hand: unit name -> number. Several calls of the same `gesture` (a slider that is dragged) are one
 * step for undo.
 */
export function change(store, edits, gesture = null) {
  store.set({ refused: null });
  const { back } = steps.get(store);
  if (!gesture || back[back.length - 1]?.gesture !== gesture) back.push({ edits: store.get().edits, gesture });
  steps.get(store).forth = [];
  tell(store, edits);
}

/** End a gesture: the next change is a step of its own. */
export function endGesture(store) {
  const { back } = steps.get(store);
  if (back.length) back[back.length - 1].gesture = null;
}

/** Take a gesture back that goes on, as if it had not begun. */
export function withdraw(store, gesture) {
  const { back } = steps.get(store);
  if (back[back.length - 1]?.gesture === gesture) tell(store, back.pop().edits);
}

export function undo(store) {
  const { back, forth } = steps.get(store);
  if (!back.length) return;
  store.set({ refused: null });
  forth.push({ edits: store.get().edits, gesture: null });
  tell(store, back.pop().edits);
}

export function redo(store) {
  const { back, forth } = steps.get(store);
  if (!forth.length) return;
  back.push({ edits: store.get().edits, gesture: null });
  tell(store, forth.pop().edits);
}

/** Take back what the model cannot be set to, such as two concepts that exclude each other. */
function refuse(store, error) {
  const { back, accepted } = steps.get(store);
  if (back.length && back[back.length - 1].edits === accepted) back.pop();
  tell(store, accepted);
  store.set({ refused: error.message });
}

function tell(store, edits) {
  const { back, forth } = steps.get(store);
  store.set({ edits, undoable: back.length > 0, redoable: forth.length > 0 });
}

/** Edits without those of some units. */
export function without(edits, names) {
  return Object.fromEntries(Object.entries(edits).filter(([name]) => !names.includes(name)));
}
