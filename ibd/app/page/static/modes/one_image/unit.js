// What the opened unit looks like in training data.

export function mount(slot, store, context) {
  slot.hidden = true;
}
