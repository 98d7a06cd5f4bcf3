// Maps of explainers.

export function mount(slot, store, context) {
  slot.hidden = true;
}
