// Bringing an image: drop it anywhere on the page, paste it, or choose a file.

import { send } from "../../api.js";
import { h, say } from "../../ui.js";

const MOST_BYTES = 20 * 2 ** 20;

export function mount(slot, store, context) {
  let turn = 0;
  const input = h("input", { type: "file", accept: "image/*", id: "file", onchange: () => bring(input.files) });
  slot.append(h("label.button", { for: "file" }, "Choose a file", input), h("span.quiet", {}, " or drop or paste an image"));

  async function bring(files) {
    const file = files[0];
    if (!file) return;
    const mine = ++turn;
    context.alert(null); // it is about the file before
    try {
      if (file.size > MOST_BYTES) throw new Error(`'${file.name}' is longer than 20 MB, the most that is taken here`);
      say("The image is being read.");
      const { image } = await send(`/api/uploads?${new URLSearchParams({ name: file.name })}`, file);
      if (mine === turn) store.set({ image }); // another one that was brought or chosen meanwhile is what is wanted
    } catch (error) {
      context.alert(error);
    }
    input.value = "";
  }

  const end = store.on(["image"], ({ image }) => { if (image) turn += 1; });
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
  };
  const drop = (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    document.body.classList.remove("dropping");
    bring(event.dataTransfer.files);
  };
  const paste = (event) => { if (event.clipboardData?.files.length) bring(event.clipboardData.files); };
  const listeners = { dragover: over, dragleave: over, drop, paste };
  for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
  return () => {
    turn += 1; // what is still being read is not gone to any more
    end();
    for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
  };
}
