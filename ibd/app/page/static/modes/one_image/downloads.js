// Taking the result along.

export function mount(slot, store, context) {
  slot.hidden = true;
}
