// The image as the network is fed with it. Maps are laid over it in the element `.over`, which has its size.

import { runPath } from "../../api.js";
import { h } from "../../ui.js";

export function mount(slot, store, context) {
  const [height, width] = context.info.image_size, image = h("img", { alt: "" });
  const caption = h("figcaption");
  slot.append(h("figure", {}, h("div.stage", {}, image, h("div.over")), caption));
  slot.hidden = true;
  store.on(["image", "title", "truth"], ({ image: name, title, truth }) => {
    slot.hidden = !name;
    if (!name) return;
    const address = runPath(context.run.key, "picture", { image: name });
    if (title && image.getAttribute("src") !== address) image.src = address;
    image.alt = `the image ${title}, as the model is fed with it`;
    caption.textContent = `${truth ? `${title}: ${truth}` : title} (as the model is fed with it: ${width} × ${height} pixels)`;
  });
}
