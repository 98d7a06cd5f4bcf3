// A state that others listen to: store.set({image: "test:3"}), store.on(["image"], (state) => ...).

export function makeStore(first) {
  const state = { ...first };
  const listeners = new Set();
  return {
    /** The values as they are now; to be changed by `set` alone. */
    get: () => state,
    /** Change some values, and tell those that listen to one that is another now. */
    set(changes) {
      const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
      Object.assign(state, changes);
      if (!changed.length) return;
      for (const [keys, listener] of [...listeners]) if (keys.some((key) => changed.includes(key))) listener(state, changed);
    },
    /** Call a function when one of some values changes; returns what ends that. */
    on(keys, listener) {
      const entry = [keys, listener];
      listeners.add(entry);
      return () => listeners.delete(entry);
    },
  };
}
