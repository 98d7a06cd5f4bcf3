// The confusion matrix: each cell opens its images. Of many classes a picture of all, and a readable part of it.

import { h, percent } from "../../ui.js";
import { overview } from "./overview.js";
import { ask } from "./reading.js";
import { sheet } from "./sheet.js";

const READABLE = 25; // classes whose cells hold numbers that can be read
const LISTED = 100;

export function mount(slot, context, change, { split }) {
  let leave = null, gone = false;
  ask(context, "confusion", { split }).then((found) => {
    if (!gone) leave = draw(slot, context, change, split, prepared(found));
  }).catch(context.alert);
  return { update() {}, leave() { gone = true; leave?.(); } };
}

/** The counts by row and column, and the confusions, the most frequent first. */
function prepared({ classes, cells, images, silent }) {
  const counts = new Map(cells.map(([truth, predicted, count]) => [truth * classes.length + predicted, count]));
  const count = (truth, predicted) => counts.get(truth * classes.length + predicted) ?? 0;
  const wrong = cells.filter(([truth, predicted]) => truth !== predicted).sort((a, b) => b[2] - a[2]);
  return { classes, images, silent, count, wrong };
}

function draw(slot, context, change, split, found) {
  const { classes, wrong } = found;
  const address = (truth, predicted) =>
    context.link({ parameters: { view: "images", split, truth: classes[truth], predicted: classes[predicted] } });
  const total = wrong.reduce((sum, [, , count]) => sum + count, 0);
  slot.replaceChildren(h("p", {}, `${total} images are taken for another class. A cell opens its images; the arrow keys go from cell to cell.`));
  let leave = null;
  const part = h("div.part");
  if (classes.length <= READABLE) {
    part.append(matrix(found, classes.map((_, index) => index), address));
    slot.append(part);
  } else {
    const whole = overview(found, address);
    leave = whole.leave;
    const choice = h("select", { onchange: () => around() },
      h("option", { value: "" }, "that are confused most"), classes.map((name, index) => h("option", { value: index }, name)));
    const around = () => part.replaceChildren(matrix(found, choice.value === "" ? mostConfused(found) : neighbors(found, Number(choice.value)), address));
    around();
    slot.append(h("h2", {}, `All ${classes.length} classes`), whole.element,
      h("h2", {}, "A part of it"), h("p", {}, h("label", {}, "The classes ", choice), " and those that they are confused with"), part);
  }
  const cut = wrong.length > LISTED ? `, ${LISTED} of ${wrong.length}` : "";
  if (wrong.length) slot.append(h("h2", {}, `Most frequent confusions${cut}`), list(found, address));
  return leave;
}

/** The classes of the most frequent confusions, in the order of the classes. */
function mostConfused({ classes, wrong }) {
  const chosen = new Set();
  for (const [truth, predicted] of wrong) {
    if (new Set([...chosen, truth, predicted]).size > READABLE) break;
    chosen.add(truth).add(predicted);
  }
  return chosen.size ? [...chosen].sort((a, b) => a - b) : classes.map((_, index) => index).slice(0, READABLE);
}

/** A class, and those that it is confused with, the most frequent first. */
function neighbors({ wrong }, index) {
  const chosen = new Set([index]);
  for (const [truth, predicted] of wrong) {
    if (chosen.size === READABLE) break;
    if (truth === index) chosen.add(predicted);
    else if (predicted === index) chosen.add(truth);
  }
  return [...chosen];
}

/** A table of some classes: rows are what the images are of, columns what they are taken for. */
function matrix({ classes, images, silent, count }, shown, address) {
  const withSilent = silent.some(Boolean);
  const cell = (truth, predicted) => {
    const number = count(truth, predicted), share = images[truth] ? number / images[truth] : 0;
    const color = truth === predicted ? "--for" : "--against";
    const strength = Math.round(15 + 40 * Math.sqrt(share));
    const label = `${classes[truth]} taken for ${classes[predicted]}: ${number} of ${images[truth]} images`;
    const style = number ? { background: `color-mix(in srgb, var(${color}) ${strength}%, transparent)` } : {};
    return number
      ? h("td", { style, title: label }, h("a.cell", { href: address(truth, predicted), "aria-label": label, tabIndex: -1 }, String(number)))
      : h("td.cell", { title: label, tabIndex: -1, "aria-label": label }, "·");
  };
  const head = h("tr", {}, h("th", { scope: "col" }, "truth ↓, taken for →"),
    shown.map((index) => h("th", { scope: "col", title: classes[index] }, h("span", {}, classes[index]))),
    withSilent ? h("th", { scope: "col" }, h("span", {}, "no answer")) : null,
    h("th", { scope: "col" }, h("span", {}, "images")));
  const body = h("tbody", {}, shown.map((truth) => h("tr", {},
    h("th", { scope: "row", title: classes[truth] }, classes[truth]),
    shown.map((predicted) => cell(truth, predicted)),
    withSilent ? h("td", {}, String(silent[truth])) : null, h("td", {}, String(images[truth])))));
  const table = h("table.matrix", {}, h("caption.hidden", {}, "Confusion matrix: rows are true classes, columns predicted ones"), h("thead", {}, head), body);
  walk(table, shown.length);
  return h("div.matrix-box", { role: "region", "aria-label": "Confusion matrix" }, table);
}

/** One cell of the table can be reached by the tab key; arrow keys go on from there. */
function walk(table, size) {
  const cells = [...table.querySelectorAll(".cell")];
  if (!cells.length) return;
  cells[0].tabIndex = 0;
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  table.addEventListener("keydown", (event) => {
    const place = cells.indexOf(event.target.closest(".cell"));
    if (place < 0) return;
    let row = Math.floor(place / size), column = place % size;
    if (steps[event.key]) {
      row = Math.min(size - 1, Math.max(0, row + steps[event.key][0]));
      column = Math.min(size - 1, Math.max(0, column + steps[event.key][1]));
    } else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = size - 1;
    else return;
    event.preventDefault();
    cells[place].tabIndex = -1;
    const next = cells[row * size + column];
    next.tabIndex = 0;
    next.focus();
  });
}

function list({ classes, images, wrong }, address) {
  const rows = wrong.slice(0, LISTED).map(([truth, predicted, count]) => ({ truth, predicted, count, share: count / images[truth] }));
  return sheet("Most frequent confusions", [
    {
      title: "Images of", key: (row) => classes[row.truth],
      shown: (row) => h("a", { href: address(row.truth, row.predicted) }, `${classes[row.truth]} taken for ${classes[row.predicted]}`),
    },
    { title: "Images", number: true, first: "down", key: (row) => row.count, shown: (row) => String(row.count) },
    { title: "Share of the class", number: true, first: "down", key: (row) => row.share, shown: (row) => percent(row.share) },
  ], rows);
}
