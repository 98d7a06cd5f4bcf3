// The images of a split as a table: filtered, sorted and cut into pages by the server.
//
// Parameters of the address: state, truth, predicted, least, most, concept, having, text, by, descending, page.

import { latest, runPath } from "../../api.js";
import { bar, h, percent, say } from "../../ui.js";
import { ask } from "./reading.js";

const PAGE = 50;
const STATES = { all: "all", right: "right", wrong: "wrong", answered: "answered", abstains: "not answered" };
const HAVINGS = {
  wrong: "called wrongly", true: "is true", false: "is not true", called: "called present", "not called": "not called present",
  unknown: "unknown",
};
const FILTERS = ["state", "truth", "predicted", "least", "most", "concept", "having", "text"];
const PLAIN = { state: "all", least: "0", most: "1", having: "wrong" };

export function mount(slot, context, change, { split, concepts, images, of }) {
  const { classes } = context.run;
  const fields = makeFields(classes, concepts, change);
  const count = h("p.count", { role: "status" });
  const body = h("tbody");
  const head = h("tr");
  const table = h("table.images", {}, h("caption.hidden", {}, `Images of the ${split} split`), h("thead", {}, head), body);
  const box = h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Table of the images" }, table);
  const pages = h("nav.pages", { "aria-label": "Pages of the table" });
  const clear = h("button.small", { type: "button", onclick: () => change({ ...none(), page: null }) }, "Clear filters");
  slot.append(
    h("form.filters", { onsubmit: (event) => event.preventDefault(), "aria-label": "Filters" },
      fields.elements, clear),
    count, box, pages,
  );
  const part = images < of ? `; of the ${of} images of the split ${images} were read, at even distances` : "";
  let parameters = {}, total = 0;

  const load = latest(
    (wanted) => ask(context, "rows", wanted),
    (answer) => {
      total = answer.count;
      const share = answer.count ? `, ${answer.right} of them right (${percent(answer.right / answer.count)})` : "";
      count.textContent = `${answer.count} ${answer.count === 1 ? "image" : "images"}${share}${part}`;
      body.replaceChildren(...answer.rows.map((row) => imageRow(row, context, concepts.length > 0)));
      showPages(answer.offset);
      context.alert(null);
      box.removeAttribute("aria-busy");
    },
    (error) => { box.removeAttribute("aria-busy"); context.alert(error); },
  );

  function showPages(offset) {
    const last = Math.max(1, Math.ceil(total / PAGE)), page = Math.floor(offset / PAGE) + 1;
    const go = (to) => { change({ page: to > 1 ? to : null }); box.scrollIntoView({ block: "nearest" }); };
    const place = h("input", {
      type: "number", min: 1, max: last, value: page, "aria-label": "Page",
      onchange: (event) => go(Math.min(last, Math.max(1, Math.round(Number(event.target.value)) || 1))),
    });
    const focused = pages.contains(document.activeElement) ? document.activeElement.textContent : null;
    pages.hidden = last === 1;
    pages.replaceChildren(
      h("button", { type: "button", disabled: page <= 1, onclick: () => go(page - 1) }, "Previous"),
      h("span", {}, place, ` of ${last}`),
      h("button", { type: "button", disabled: page >= last, onclick: () => go(page + 1) }, "Next"),
    );
    if (focused) [...pages.querySelectorAll("button")].find((each) => each.textContent === focused && !each.disabled)?.focus();
  }

  function showHead() {
    const { by = "image", descending } = parameters;
    const focused = head.contains(document.activeElement) ? document.activeElement.textContent : null;
    const column = (title, key, first = "") => {
      const on = by === key;
      const turn = () => {
        const next = on ? (descending ? null : "1") : first || null;
        change({ by: key === "image" ? null : key, descending: next, page: null });
        say(`Sorted by ${title}, ${next ? "descending" : "ascending"}`);
      };
      return h("th", { scope: "col", "aria-sort": on ? (descending ? "descending" : "ascending") : null },
        h("button.sort", { type: "button", onclick: turn }, title, h("span", { "aria-hidden": "true" }, on ? (descending ? " ▾" : " ▴") : "")));
    };
    head.replaceChildren(
      column("Image", "image"), column("Name", "name"), column("Truth", "truth"), column("Prediction", "predicted"),
      column("Confidence", "confidence"),
      ...(concepts.length ? [column(parameters.concept ? "Concepts" : "Concepts, worst first", "concepts", "1")] : []),
      ...(parameters.concept ? [column(parameters.concept, "concept", "1")] : []),
    );
    if (focused) [...head.querySelectorAll("button")].find((each) => each.textContent.startsWith(focused.slice(0, -2)))?.focus();
  }

  function update(given) {
    parameters = given;
    const page = Math.max(1, Number(given.page) || 1);
    const wanted = Object.fromEntries(FILTERS.map((key) => [key, given[key]]).filter(([, value]) => value));
    fields.show(given);
    clear.disabled = !FILTERS.some((key) => given[key]);
    showHead();
    box.setAttribute("aria-busy", "true");
    load({ split, ...wanted, by: given.by, descending: given.descending, offset: (page - 1) * PAGE, limit: PAGE });
  }
  return { update };
}

const none = () => Object.fromEntries(FILTERS.map((key) => [key, null]));

function imageRow(row, context, withConcepts) {
  const { classes, key } = context.run;
  const address = context.link({ mode: "image", parameters: { image: row.image } });
  const picture = h("img", { src: runPath(key, "data/thumbnail", { image: row.image }), alt: "", loading: "lazy", width: 48, height: 48 });
  const open = (event) => { if (!event.target.closest("a, button") && !String(getSelection())) location.hash = address; };
  const said = row.predicted == null ? "no answer" : classes[row.predicted];
  return h(`tr${row.right ? "" : ".wrong"}`, { onclick: open },
    h("td", {}, h("a", { href: address, tabIndex: -1, "aria-hidden": "true" }, picture)),
    h("th.name", { scope: "row" }, h("a", { href: address }, row.name)),
    h("td", {}, classes[row.truth]),
    h("td", {}, said, ...verdict(row)),
    h("td.sure", {}, row.confidence == null ? "–" : [h("span.number", {}, percent(row.confidence)), " ", bar(row.confidence)]),
    withConcepts ? h("td.concepts", {}, worst(row)) : null,
    row.chosen ? h("td", {}, `${row.chosen.value}, truth ${row.chosen.truth}`, row.chosen.wrong ? h("span.chip.no", {}, "wrong") : null) : null,
  );
}

/** What is said beside a prediction: one that is held back as too unsure is neither right nor wrong, and could be either. */
function verdict(row) {
  if (row.predicted == null) return [h("span.chip.no", {}, "counts as wrong")];
  if (row.abstains) return [h("span.chip", {}, "not answered"), row.right ? null : h("span.chip.no", {}, "would be wrong")];
  return row.right ? [] : [h("span.chip.no", {}, "wrong")];
}

function worst(row) {
  const each = row.concepts.map((concept) => h(`li${concept.wrong ? ".no" : ""}`, {},
    `${concept.name} ${concept.value}, truth ${concept.truth}`, concept.wrong ? h("span.hidden", {}, ", wrong") : null));
  return [h("ul", {}, each), row.known ? h("span.quiet", {}, `${row.wrong} of ${row.known} wrong`) : null];
}

function makeFields(classes, concepts, change) {
  const set = (key) => (event) => change({ [key]: event.target.value === (PLAIN[key] ?? "") ? null : event.target.value, page: null });
  const choice = (label, key, options, first) => {
    const made = h("select", { name: key, onchange: set(key) },
      first ? h("option", { value: "" }, first) : null,
      Object.entries(options).map(([value, text]) => h("option", { value }, text)));
    return [made, h("label", {}, `${label} `, made)];
  };
  const named = (names) => Object.fromEntries(names.map((name) => [name, name]));
  const share = (label, key, value) => {
    const made = h("input", {
      type: "number", name: key, min: 0, max: 100, step: 1, value: value * 100,
      onchange: (event) => {
        const number = Math.min(100, Math.max(0, Number(event.target.value || value * 100)));
        event.target.value = number;
        change({ [key]: number === value * 100 ? null : String(number / 100), page: null });
      },
    });
    return [made, h("label", {}, `${label} `, made, " %")];
  };
  let waiting = null;
  const text = h("input", { type: "search", name: "text", placeholder: "part of the name", oninput: (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(set("text"), 250, event);
  } });
  const [state, stateLabel] = choice("Answer", "state", STATES);
  const [truth, truthLabel] = choice("Truth", "truth", named(classes), "any class");
  const [predicted, predictedLabel] = choice("Prediction", "predicted", named(classes), "any class");
  const [least, leastLabel] = share("Confidence from", "least", 0);
  const [most, mostLabel] = share("to", "most", 1);
  const [concept, conceptLabel] = choice("Concept", "concept", named(concepts), "any");
  const [having, havingLabel] = choice("that", "having", HAVINGS);
  const elements = [stateLabel, truthLabel, predictedLabel, h("span.pair", {}, leastLabel, mostLabel),
    concepts.length ? h("span.pair", {}, conceptLabel, havingLabel) : null, h("label", {}, "Name ", text)];
  function show(given) {
    state.value = given.state ?? "all";
    truth.value = given.truth ?? "";
    predicted.value = given.predicted ?? "";
    least.value = Math.round(1000 * (given.least ?? 0)) / 10;
    most.value = Math.round(1000 * (given.most ?? 1)) / 10;
    concept.value = given.concept ?? "";
    having.value = given.having ?? "wrong";
    having.disabled = !given.concept;
    if (document.activeElement !== text) text.value = given.text ?? "";
  }
  return { elements, show };
}
