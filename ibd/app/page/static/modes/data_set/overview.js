// A picture of a confusion matrix of many classes: a cell for each pair, which can be pointed at and walked through.

import { h, percent } from "../../ui.js";

const WIDE = 840; // pixels, as far as cells of at least LEAST allow
const LEAST = 4, MOST = 12;

/** Returns {element, leave}. */
export function overview({ classes, images, count, wrong }, address) {
  const size = Math.max(LEAST, Math.min(MOST, Math.floor(WIDE / classes.length))), side = size * classes.length;
  const canvas = h("canvas.matrix", {
    tabIndex: 0, role: "application", "aria-describedby": "matrix-said",
    "aria-label": `Confusion matrix of ${classes.length} classes. Arrow keys move, Enter opens the images, n and p go to the next and previous confusion.`,
  });
  const said = h("p.matrix-said", { id: "matrix-said", role: "status" }, "Rows are true classes, columns predicted ones. Point at a cell, or use the arrow keys; n goes to the most frequent confusion.");
  let at = null, nth = -1;

  function paint() {
    const scale = window.devicePixelRatio || 1, style = getComputedStyle(canvas);
    const [good, bad, line, ink] = ["--for", "--against", "--line", "--ink"].map((name) => style.getPropertyValue(name));
    canvas.width = canvas.height = side * scale;
    Object.assign(canvas.style, { width: `${side}px`, height: `${side}px` });
    const draw = canvas.getContext("2d");
    draw.scale(scale, scale);
    draw.strokeStyle = line;
    draw.globalAlpha = 0.6;
    for (let step = 10; step < classes.length; step += 10) {
      draw.beginPath();
      draw.moveTo(step * size, 0);
      draw.lineTo(step * size, side);
      draw.moveTo(0, step * size);
      draw.lineTo(side, step * size);
      draw.stroke();
    }
    const fill = (truth, predicted, color, number) => {
      draw.globalAlpha = 0.3 + 0.7 * Math.sqrt(images[truth] ? number / images[truth] : 0);
      draw.fillStyle = color;
      draw.fillRect(predicted * size, truth * size, size, size);
    };
    classes.forEach((_, index) => { if (count(index, index)) fill(index, index, good, count(index, index)); });
    for (const [truth, predicted, number] of wrong) fill(truth, predicted, bad, number);
    draw.globalAlpha = 1;
    if (at) {
      draw.strokeStyle = ink;
      draw.lineWidth = 2;
      draw.strokeRect(at[1] * size - 2, at[0] * size - 2, size + 4, size + 4);
    }
  }

  function go(truth, predicted) {
    at = [truth, predicted];
    const number = count(truth, predicted);
    said.replaceChildren(`${classes[truth]} taken for ${classes[predicted]}: ${number} of ${images[truth]} images`,
      images[truth] ? ` (${percent(number / images[truth])})` : "", number ? [" "] : "",
      number ? h("a", { href: address(truth, predicted), tabIndex: -1 }, "Open") : "");
    paint();
  }

  const pointed = (event) => {
    const box = canvas.getBoundingClientRect();
    const cell = (offset) => Math.min(classes.length - 1, Math.max(0, Math.floor(offset / size)));
    return [cell(event.clientY - box.top), cell(event.clientX - box.left)];
  };
  const open = () => { if (at && count(...at)) location.hash = address(...at); };
  canvas.addEventListener("pointermove", (event) => go(...pointed(event)));
  canvas.addEventListener("click", (event) => { go(...pointed(event)); open(); });
  canvas.addEventListener("keydown", (event) => {
    const [truth, predicted] = at ?? [0, 0], last = classes.length - 1;
    const moves = {
      ArrowUp: [Math.max(0, truth - 1), predicted], ArrowDown: [Math.min(last, truth + 1), predicted],
      ArrowLeft: [truth, Math.max(0, predicted - 1)], ArrowRight: [truth, Math.min(last, predicted + 1)],
      Home: [truth, 0], End: [truth, last],
    };
    if (event.key === "Enter") open();
    else if (moves[event.key]) go(...(at ? moves[event.key] : [0, 0]));
    else if ((event.key === "n" || event.key === "p") && wrong.length && !event.ctrlKey && !event.metaKey) {
      nth = Math.min(wrong.length - 1, Math.max(0, nth + (event.key === "n" ? 1 : -1)));
      go(wrong[nth][0], wrong[nth][1]);
    } else return;
    event.preventDefault();
    if (at) Object.assign(canvas.parentElement, { scrollLeft: at[1] * size - canvas.parentElement.clientWidth / 2 });
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", paint);
  requestAnimationFrame(paint); // once it is in the page, where its colors are known
  return {
    element: h("div", {}, h("div.matrix-box", {}, canvas), said),
    leave: () => scheme.removeEventListener("change", paint),
  };
}
