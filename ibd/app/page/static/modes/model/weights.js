// What each unit counts for each class, as a table whose colors make it a map; sorted by a class, and searched.

import { get } from "../../api.js";
import { SPLITS, alertOf, h, say, signed } from "../../ui.js";
import { until } from "../until.js";

const ROWS = 60, COLUMNS = 24;

export function mountWeights(slot, { about, context, path, signal }) {
  const { names, classes, kinds, kind } = context.info;
  const view = { what: about.linear ? "weight" : "mean", words: "", classWords: "", by: null, down: true, rows: ROWS, columns: COLUMNS };
  let mean = null, weight = null;
  const wait = h("div"), note = h("p.quiet"), frame = h("div.scroll"), status = h("p.quiet", { role: "status" });
  const more = h("button", { type: "button", onclick: () => { view.rows += ROWS; draw(); } }, `Show more ${kinds}`);
  const wider = h("button", { type: "button", onclick: () => { view.columns += COLUMNS; draw(); } }, "Show more classes");
  const file = h("a.button", { download: `weights_${context.run.key}.csv` }, "Download (CSV)");
  function tools() {
    const what = h("select", { onchange: () => { view.what = what.value; choose(); } },
      about.linear ? h("option", { value: "weight" }, "weight of the head") : null,
      h("option", { value: "mean", selected: !about.linear }, "mean contribution in images of the class"));
    const words = h("input", { type: "search", placeholder: `Search ${kinds}`, "aria-label": `Search ${kinds}`,
      oninput: () => { view.words = words.value.toLowerCase(); view.rows = ROWS; draw(); } });
    const classWords = h("input", { type: "search", placeholder: "Search classes", "aria-label": "Search classes",
      oninput: () => { view.classWords = classWords.value.toLowerCase(); view.columns = COLUMNS; draw(); } });
    return h("div.tools", {}, h("label", {}, "Show ", what), words, classWords);
  }

  async function choose() {
    if (view.what === "mean" ? !mean : !weight) {
      try {
        if (view.what === "mean") mean = await until(() => get(path("/contributions")), wait, signal);
        else ({ weight } = await get(path("/weights")));
      } catch (error) {
        if (error.name !== "AbortError") alertOf(error);
        return;
      }
    }
    ended.hidden = false;
    note.textContent = said();
    draw();
  }

  function said() {
    if (view.what === "weight") {
      return `The score of a class before it becomes a probability (its logit) is the sum of weight times what it reads of each ${kind}, and a bias where there is one. Weights are comparable where what is read has one scale.`;
    }
    const why = about.linear ? "" : ` A logit is no weighted sum of what is read of each ${kind}, so there are no weights.`;
    return (mean.additive ? `What each ${kind} adds to the logit of a class, in the mean over its ${SPLITS[mean.split]} images.`
      : `By how much the logit of a class falls without the ${kind}, in the mean over its ${SPLITS[mean.split]} images; these do not add up.`) + why;
  }

  const values = () => (view.what === "weight" ? weight : mean?.mean);
  const called = (unit) => about.names[names[unit]] ?? names[unit];

  function draw() {
    const table = values();
    if (!table) return; // it is still being read
    const columns = classes.map((_, i) => i).filter((i) => classes[i].toLowerCase().includes(view.classWords));
    const shown = columns.slice(0, view.columns);
    let units = names.map((_, unit) => unit).filter((unit) => `${called(unit)} ${names[unit]}`.toLowerCase().includes(view.words));
    if (view.by != null) {
      const of = (unit) => table[view.by][unit] ?? -Infinity;
      units = units.sort((a, b) => (view.down ? of(b) - of(a) : of(a) - of(b)) || a - b);
    }
    const most = Math.max(1e-12, ...table.flat().filter((value) => value != null).map(Math.abs));
    more.hidden = units.length <= view.rows;
    wider.hidden = columns.length <= view.columns;
    status.textContent = `${Math.min(units.length, view.rows)} of ${names.length} ${kinds}, ${shown.length} of ${classes.length} classes`
      + (view.by == null ? "" : `, sorted by ${classes[view.by]}`);
    frame.replaceChildren(h("table.weights", {},
      h("caption.hidden", {}, `What each ${kind} counts for each class`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, kind), shown.map(head))),
      h("tbody", {}, units.slice(0, view.rows).map((unit) => h("tr", {},
        h("th", { scope: "row" }, breakable(called(unit))),
        shown.map((i) => square(table[i][unit], most)))))));
    if (file.href.startsWith("blob:")) URL.revokeObjectURL(file.href);
    file.href = URL.createObjectURL(new Blob([csv(units, columns, table)], { type: "text/csv" }));
  }

  function head(i) {
    const sorted = view.by === i;
    const sort = sorted ? (view.down ? "descending" : "ascending") : "none";
    return h("th", { scope: "col", "aria-sort": sort },
      h("button.small", { type: "button", "aria-label": `Sort by ${classes[i]}`, onclick: () => {
        view.down = sorted ? !view.down : true;
        view.by = i;
        draw();
        frame.querySelectorAll("thead button")[[...frame.querySelectorAll("thead button")].findIndex((b) => b.getAttribute("aria-label") === `Sort by ${classes[i]}`)]?.focus();
        say(`Sorted by ${classes[i]}, ${view.down ? "largest" : "smallest"} first.`);
      } }, breakable(classes[i]), sorted ? (view.down ? " ↓" : " ↑") : ""));
  }

  const csv = (units, columns, table) => [
    [kind, ...columns.map((i) => classes[i])], ...units.map((unit) => [called(unit), ...columns.map((i) => table[i][unit] ?? "")]),
  ].map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text)).join(",")).join("\r\n");

  signal.addEventListener("abort", () => URL.revokeObjectURL(file.href));
  const ended = h("div.tools", {}, more, wider, file);
  slot.append(tools(), note, wait, status, frame, ended);
  ended.hidden = true;
  choose();
}

/** A name that may go on in the next line after its parts. */
function breakable(name) {
  return name.split(/(?<=_|::)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
}

function square(value, most) {
  if (value == null) return h("td.number", {}, "–");
  const cell = h("td.number", { class: value < 0 ? "against" : "for" }, signed(value));
  cell.style.setProperty("--share", `${(60 * Math.abs(value)) / most}%`);
  return cell;
}
