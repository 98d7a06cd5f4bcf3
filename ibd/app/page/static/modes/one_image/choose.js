// Choosing an image of the data set.

export function mount(slot, store, context) {
  slot.hidden = true;
}
