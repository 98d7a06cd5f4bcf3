// Thresholds, set on validation images and kept with the run: from which probability on a concept is called present, and
// from which confidence on a class is answered. All numbers come from the server.
//
// Parameters of the address: concept (none is the confidence of the class).

import { latest, post, runPath } from "../../api.js";
import { h, say } from "../../ui.js";
import { precisionRecall } from "./drawing.js";
import { ask } from "./reading.js";
import { interval, sheet } from "./sheet.js";

const CLASS = "Confidence of the class";

export function mount(slot, context, change) {
  const choice = h("select", { onchange: () => change({ concept: choice.value || null }) });
  const setter = h("div.setter"), set = h("div");
  const said = h("p", { role: "status" });
  slot.append(
    h("p", {}, "A threshold is set on validation images and kept in the run’s folder: the predictions of this page, of ",
      h("code", {}, "ibd predict"), " and of Python go by it. It is chosen on these images, so new ones are likely to be a little worse."),
    h("p", {}, h("label", {}, "Threshold of ", choice)), setter, said, h("h2", {}, "Set now"), set,
  );
  let state = null, shown = 0;

  async function update({ concept = "" }) {
    const mine = ++shown;
    try {
      const [now, found] = await Promise.all([ask(context, "thresholds"), ask(context, "threshold", { concept })]);
      if (mine !== shown) return;
      state = now;
      choice.replaceChildren(h("option", { value: "" }, CLASS), ...now.can.map((name) => h("option", { value: name }, name)));
      choice.value = concept;
      draw(concept, found);
      list();
      context.alert(null);
    } catch (error) {
      context.alert(error);
    }
  }

  const saved = (concept) => (concept ? state.concepts[concept] : state.confidence) ?? null;

  function draw(concept, { places, usual }) {
    const last = places.length - 1, words = concept ? WORDS.concept : WORDS.confidence;
    const before = saved(concept);
    const { svg, move } = precisionRecall(`Precision and recall of ${concept || CLASS} by threshold`, places);
    const range = h("input", { type: "range", min: 0, max: 1, step: 1 / last, "aria-label": `Threshold of ${concept || CLASS}` });
    const number = h("input", { type: "number", min: 0, max: 1, step: "any", "aria-label": "Threshold as a number" });
    const at = h("dl.at", { "aria-live": "polite" });
    let chosen = 0; // known at once, also while the server is asked what it comes to
    function show(one) {
      chosen = one.value;
      range.value = one.value;
      number.value = short(one.value);
      move(one.value);
      at.replaceChildren(
        h("dt", {}, words.precision), h("dd", {}, interval(one.precision)),
        h("dt", {}, words.recall), h("dd", {}, interval(one.recall)),
        h("dt", {}, words.called), h("dd", {}, `${one.called} of ${one.images} images, ${one.right} of them ${words.right}`),
      );
    }
    const within = (value) => Math.min(1, Math.max(0, Number(value) || 0));
    const nearest = (value) => places[Math.round(within(value) * last)];
    const typed = latest((value) => ask(context, "threshold", { concept, value }), (found) => show(found.place), context.alert);
    range.addEventListener("input", () => show(nearest(range.value)));
    number.addEventListener("change", () => typed(chosen = within(number.value)));
    const wanted = h("input", { type: "number", min: 1, max: 100, step: 0.5, value: before?.wanted ? 100 * before.wanted : 95, "aria-label": `Wanted ${words.wanted} in percent` });
    const share = () => Number(wanted.value) / 100;
    setter.replaceChildren(
      h("div.halves", {},
        h("div", {},
          h("div.slide", {}, range, number),
          at,
          h("div.row", {},
            h("button", { type: "button", onclick: () => save(concept, { value: chosen }) }, "Save this threshold"),
            h("button", { type: "button", disabled: !before, onclick: () => save(concept, {}) }, "Take it away")),
          h("div.row", {}, h("label", {}, `${words.Wanted} `, wanted, " % "),
            h("button", { type: "button", onclick: () => save(concept, { precision: share() }) }, "Find and save"),
            concept ? h("button", { type: "button", onclick: () => save(concept, { precision: share(), all: true }) }, "For all concepts") : null),
          h("p.quiet", {}, before ? `Saved: from ${short(before.value)}, ${how(before)}.` : words.without)),
        h("div", {}, svg, h("p.key", {}, h("span.first", {}, h("b", {}, "—"), ` ${words.precision}`), h("span.second", {}, h("b", {}, "- -"), ` ${words.recall}`)))),
    );
    show(before ?? nearest(usual));
  }

  async function save(concept, wish) {
    const focused = document.activeElement.textContent;
    try {
      const body = { ...wish, concept: concept || null };
      state = await post(runPath(context.run.key, "data/threshold"), body);
      const now = saved(concept);
      const missed = state.missed.length ? ` Not reached: ${state.missed.join("; ")}.` : "";
      const done = `${now ? `Kept in ${state.file}.` : "Taken away."}${missed}`;
      await update(context.parameters);
      said.textContent = done;
      [...setter.querySelectorAll("button:enabled")].find((button) => button.textContent === focused)?.focus();
    } catch (error) {
      said.textContent = "";
      context.alert(error);
      say(error.message);
    }
  }

  function list() {
    const rows = [
      ...(state.confidence ? [{ name: "", title: CLASS, ...state.confidence }] : []),
      ...Object.entries(state.concepts).map(([name, one]) => ({ name, title: name, ...one })),
    ];
    if (!rows.length) return set.replaceChildren(h("p.quiet", {}, `None: ${state.can.length ? "a concept is called present above 0.5, and " : ""}a class is answered whatever its confidence.`));
    const address = (name) => context.link({ parameters: { view: "thresholds", concept: name || null } });
    return set.replaceChildren(sheet("Thresholds that are set", [
      { title: "Of", key: (row) => row.title, shown: (row) => h("a", { href: address(row.name) }, row.title) },
      { title: "From", number: true, key: (row) => row.value, shown: (row) => row.value.toFixed(4) },
      { title: "How", key: how, shown: how },
      { title: "Precision", number: true, key: (row) => row.precision[0], shown: (row) => interval(row.precision) },
      { title: "Recall", number: true, key: (row) => row.recall[0], shown: (row) => interval(row.recall) },
      { title: "Called", number: true, key: (row) => row.called, shown: (row) => `${row.called} of ${row.images}` },
    ], rows));
  }
  return { update };
}

const short = (value) => Number(value.toFixed(6));

const how = (one) => (one.wanted == null ? "by hand" : `chosen for ${Number((100 * one.wanted).toFixed(2))} %`);

const WORDS = {
  concept: {
    precision: "precision", recall: "recall", called: "called present", right: "rightly", wanted: "precision", Wanted: "Wanted precision",
    without: "None is saved: it is called present above 0.5.",
  },
  confidence: {
    precision: "accuracy of the answers", recall: "right answers that are kept", called: "answered", right: "right", wanted: "accuracy",
    Wanted: "Wanted accuracy", without: "None is saved: a class is answered whatever its confidence.",
  },
};
