// What a person wants of prototypes: kept in this tab until it is done, also over a reload; done by the server, which
// saves the edited model as a new run.

import { get, post } from "../../api.js";
import { alertOf, h, percent, plain, say } from "../../ui.js";
import { framed, openRun } from "./gallery.js";
import { until } from "../until.js";

export function makeEdits({ about, context, path, signal }) {
  const { names } = context.info;
  const key = `ibd-edits-${context.run.folder}`;
  const wishes = read();
  const summary = h("p", { role: "status" });
  const result = h("div.result", { role: "status" });
  const wait = h("div");
  const apply = h("button.primary", { type: "button", onclick: send }, "Save as an edited model");
  const clear = h("button", { type: "button", onclick: drop }, "Drop all edits");
  const bar = h("div.pending", {}, summary, apply, clear);
  const element = h("section.edits", { "aria-label": "Edits" },
    h("p.quiet", {}, "Forget prototypes that look at the wrong thing, keep some that were switched off",
      about.patches ? ", or replace one by another training patch. The last layer is then solved again, and the model is saved as a new run: this one stays as it is."
        : ". The model is then saved as a new run, with the weights of the others as they were trained: this one stays as it is."),
    bar, wait, result);
  const candidates = h("dialog.patches", { "aria-label": "Other patches" });
  element.append(candidates);
  const shown = {
    element, of, words, choosePatch,
    toggle: (unit, kind) => set(unit, of(unit)?.kind === kind ? null : { kind }),
    clear: (unit) => set(unit, null),
    onDropped: () => {}, // called when nothing is wanted any more
  };
  changed();
  if (context.parameters.edit) follow(context.parameters.edit);

  function read() {
    try {
      return JSON.parse(sessionStorage.getItem(key)) ?? {};
    } catch {
      return {};
    }
  }

  function drop() {
    for (const unit of Object.keys(wishes)) delete wishes[unit];
    changed();
    shown.onDropped();
  }

  function changed() {
    try {
      sessionStorage.setItem(key, JSON.stringify(wishes));
    } catch { /* it is kept until the page is left */ }
    const counts = { forget: 0, keep: 0, replace: 0 };
    for (const { kind } of Object.values(wishes)) counts[kind] += 1;
    const said = Object.entries(counts).filter(([, n]) => n).map(([kind, n]) => `${kind} ${n}`).join(", ");
    bar.hidden = !said;
    summary.textContent = said ? `To do: ${said}.` : "";
  }

  function of(unit) {
    return wishes[unit] ?? null;
  }

  function set(unit, wish) {
    if (wish) wishes[unit] = wish;
    else delete wishes[unit];
    changed();
  }

  function words(unit) {
    const wish = of(unit);
    if (!wish) return "";
    return { forget: "to be forgotten", keep: "to be kept", replace: `to become a patch of ${wish.replace?.name}` }[wish.kind];
  }

  async function choosePatch(unit, then) {
    const slot = h("div");
    const close = h("button", { type: "button", onclick: () => candidates.close() }, "Leave it as it is");
    const owner = about.owner ? context.info.classes[about.owner[unit]] : "";
    candidates.replaceChildren(h("h2", {}, `Another patch for ${names[unit]}`),
      h("p.quiet", {}, `The most similar training patches of ${owner}, one of each image.`), slot, close);
    candidates.showModal();
    try {
      const { patches } = await until(() => get(path("/patches", { unit })), slot, signal);
      slot.replaceChildren(h("div.offered", {}, patches.map((patch) => {
        const image = `train:${patch.image}`;
        return h("button", { type: "button", onclick: () => {
          set(unit, { kind: "replace", replace: patch });
          candidates.close();
          then();
          say(`${names[unit]}: ${words(unit)}`);
        } },
        h("span.patch", {},
          h("img.cut", { src: path("/image", { image, box: patch.box.join(",") }), alt: "" }),
          h("span.whole", {}, h("img", { src: path("/image", { image }), alt: "" }), framed(patch.box))),
        h("span", {}, `${patch.name}, similarity ${plain(patch.similarity, 4)}`));
      })));
      slot.querySelector("button")?.focus();
    } catch (error) {
      candidates.close();
      if (error.name !== "AbortError") alertOf(error);
    }
  }

  async function send() {
    apply.disabled = true;
    alertOf(null);
    const entries = Object.entries(wishes);
    const wanted = (kind) => entries.filter(([, wish]) => wish.kind === kind);
    const numbers = (kind) => wanted(kind).map(([unit]) => Number(unit));
    const replace = Object.fromEntries(wanted("replace").map(([unit, wish]) => {
      const { image, row, column } = wish.replace;
      return [unit, { image, row, column }];
    }));
    try {
      const { work } = await post(path("/edits"), { forget: numbers("forget"), keep: numbers("keep"), replace });
      context.go({ parameters: { edit: work } }, { replace: true }); // a reload goes on waiting for it
      await follow(work);
    } catch (error) {
      alertOf(error);
    }
    apply.disabled = false;
  }

  async function follow(work) {
    try {
      const { edited } = await until(() => get(path(`/edits/${encodeURIComponent(work)}`)), wait, signal);
      told(edited);
    } catch (error) {
      if (error.name !== "AbortError") alertOf(error);
    }
  }

  function told({ folder, run, before, after, mended, broken, kept, solved }) {
    const accuracy = (share) => `${percent(share.mean)} (95 % interval ${percent(share.low)} to ${percent(share.high)})`;
    result.replaceChildren(
      h("h2", {}, "The edited model"),
      h("p", {}, "Saved as ", h("code", {}, folder), ". ", openRun(context, run)),
      h("table", {}, h("tbody", {},
        h("tr", {}, h("th", { scope: "row" }, "Accuracy before"), h("td", {}, accuracy(before))),
        h("tr", {}, h("th", { scope: "row" }, "Accuracy after"), h("td", {}, accuracy(after))))),
      h("p", {}, `On ${after.n} validation images: ${mended} became right, ${broken} became wrong. ${kept} prototypes are on.`,
        solved ? ` ${solved[0].toUpperCase()}${solved.slice(1)}.` : ""),
      h("p.quiet", {}, "The accuracy on validation images is for choosing; ", h("code", {}, `ibd test ${folder}`), " says what the edited model is worth."));
    drop();
  }

  return shown;
}
