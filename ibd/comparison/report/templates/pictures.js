// Pictures: a click, or Enter, shows one as large as the screen has room; the arrow keys go to its neighbours.
const frame = made("dialog", { class: "large", "aria-label": "A picture, enlarged" });
const close = made("button", { type: "button", class: "close" }, "Close");
const said = made("p", { "aria-live": "polite" });
const large = made("img", { alt: "" });
frame.append(large, said, close);
document.body.append(frame);
let neighbours = [], at = 0;
const enlarge = (place) => {
  at = (place + neighbours.length) % neighbours.length;
  const small = neighbours[at];
  large.src = small.src;
  large.alt = small.alt;
  large.className = small.className;
  large.style.aspectRatio = `${small.getAttribute("width")} / ${small.getAttribute("height")}`;
  const caption = small.closest("figure")?.querySelector("figcaption")?.textContent.trim().replace(/\s+/g, " ");
  said.textContent = caption ? `${caption} (${small.alt})` : small.alt;
};
for (const small of all("img.zoom")) {
  const button = made("button", { type: "button", class: "enlarge", title: "Enlarge" });
  small.before(button);
  button.append(small);
  button.addEventListener("click", () => {
    neighbours = all("img.zoom", button.closest(".together") ?? button);
    enlarge(neighbours.indexOf(small));
    frame.showModal();
    close.focus();
  });
}
close.addEventListener("click", () => frame.close());
frame.addEventListener("click", (event) => { if (event.target === frame) frame.close(); });
frame.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) enlarge(at + step);
});
