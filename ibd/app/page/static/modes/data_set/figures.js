// The figures of a split, those of `ibd test`: by class, by concept, and how far stated probabilities can be believed.

import { h, plain } from "../../ui.js";
import { reliability } from "./drawing.js";
import { ask } from "./reading.js";
import { interval, sheet } from "./sheet.js";

export function mount(slot, context, change, { split }) {
  load(slot, context, split).catch(context.alert);
  return { update() {} };
}

async function load(slot, context, split) {
  const found = await ask(context, "figures", { split });
  const open = (parameters) => context.link({ parameters: { view: "images", split, ...parameters } });
  const part = found.images < found.of ? ` (${found.images} of ${found.of} images, at even distances)` : "";
  slot.replaceChildren(
    h("p", {}, `${found.right} of ${found.images} images are right: accuracy `, h("strong", {}, interval(found.accuracy)),
      `, balanced ${plain(found.balanced_accuracy, 3)}, AUROC ${plain(found.auroc, 3)}.${part}`,
      found.abstains ? ` ${found.abstains} are not answered; of the ${found.images - found.abstains} that are, ${found.answered_right} are right.` : ""),
    found.abstains ? h("p.quiet", {}, "The figures are of all images: one that is held back as too unsure counts as what the model takes it for, one without any prediction as wrong.") : "",
    h("h2", {}, "By class"), classTable(found, open),
    ...(found.concepts.length ? [h("h2", {}, "By concept"), conceptTable(found, open),
      h("p.quiet", {}, "“Same of all” is the accuracy of whoever says of every image what holds for most.")] : []),
    ...(found.quantities.length ? [h("h2", {}, "Quantities"), quantityTable(found)] : []),
    h("h2", {}, "Calibration"), curves(found, context, split),
  );
}

function classTable(found, open) {
  return sheet("Figures by class", [
    { title: "Class", key: (row) => row.name, shown: (row) => h("a", { href: open({ truth: row.name }) }, row.name) },
    { title: "Images", number: true, first: "down", key: (row) => row.images, shown: (row) => String(row.images) },
    { title: "Accuracy", number: true, key: (row) => row.recall[0], shown: (row) => interval(row.recall) },
    { title: "Precision", number: true, key: (row) => row.precision[0], shown: (row) => interval(row.precision) },
    { title: "AUROC", number: true, key: (row) => row.auroc, shown: (row) => plain(row.auroc, 3) },
    {
      title: "Most often taken for", key: (row) => row.times, first: "down",
      shown: (row) => (row.times
        ? h("a", { href: open({ truth: row.name, predicted: row.taken_for }) }, `${row.taken_for} (${row.times})`) : "–"),
    },
  ], found.classes, { by: 2, down: false });
}

function conceptTable(found, open) {
  return sheet("Figures by concept", [
    { title: "Concept", key: (row) => row.name, shown: (row) => h("a", { href: open({ concept: row.name, having: "wrong" }) }, row.name) },
    { title: "True in", number: true, first: "down", key: (row) => row.yes, shown: (row) => String(row.yes) },
    { title: "Not true in", number: true, first: "down", key: (row) => row.no, shown: (row) => String(row.no) },
    { title: "Accuracy at 0.5", number: true, key: (row) => row.accuracy[0], shown: (row) => interval(row.accuracy) },
    { title: "Same of all", number: true, first: "down", key: (row) => row.constant, shown: (row) => plain(row.constant, 3) },
    { title: "AUROC", number: true, key: (row) => row.auroc, shown: (row) => plain(row.auroc, 3) },
    { title: "Calibration error", number: true, first: "down", key: (row) => row.ece, shown: (row) => plain(row.ece, 4) },
  ], found.concepts, { by: 5, down: false });
}

function quantityTable(found) {
  return sheet("Figures by quantity", [
    { title: "Quantity", key: (row) => row.name, shown: (row) => row.name },
    { title: "Known in", number: true, key: (row) => row.known, shown: (row) => String(row.known) },
    { title: "Mean error", number: true, key: (row) => row.error[0], shown: (row) => `${interval(row.error)} ${row.unit}` },
    { title: "R²", number: true, key: (row) => row.r2, shown: (row) => plain(row.r2, 3) },
  ], found.quantities);
}

function curves(found, context, split) {
  const box = h("div.halves", {}, reliability("Predicted classes", found.class_reliability));
  if (!found.concept_reliability) return box;
  const place = h("div", {}, reliability("All known concepts", found.concept_reliability));
  const show = async (name) => {
    try {
      const one = name ? await ask(context, "reliability", { split, concept: name }) : found.concept_reliability;
      place.replaceChildren(reliability(name || "All known concepts", one));
    } catch (error) {
      context.alert(error);
    }
  };
  const names = found.concepts.filter((concept) => concept.yes + concept.no).map((concept) => concept.name);
  const choice = h("select", { onchange: () => show(choice.value) },
    h("option", { value: "" }, "all known concepts"), names.map((name) => h("option", { value: name }, name)));
  box.append(h("div", {}, h("label", {}, "Curve of ", choice), place));
  return box;
}
