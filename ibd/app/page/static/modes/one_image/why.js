// What would change the answer.

export function mount(slot, store, context) {
  slot.hidden = true;
}
