// All units of the model in their groups, to be searched, read, and set by hand.

import { h, say } from "../../ui.js";
import { makeRow } from "./row.js";
import { change, redo, undo, without } from "./state.js";

const MANY = 60; // more units than this are shown by what they add
const AT_ONCE = 200; // rows that are written together; of more, those out of sight follow the others

export function mount(slot, store, context) {
  const { names, groups, kind, kinds, classes, controls, edit_note } = context.info;
  const rows = names.map((_, unit) => makeRow(unit, store, context));
  const grouped = groups.length > 0 && groups.some(({ units }) => units.length > 1);
  const view = { words: "", which: "all", order: grouped && names.length <= MANY ? "group" : "size" };

  const list = h("div.units-list");
  const count = h("p.quiet", { role: "status" });
  const search = h("input", { type: "search", placeholder: `Search ${names.length} ${kinds}`, "aria-label": `Search ${kinds}`,
    oninput: () => { view.words = search.value; filter(); } });
  const which = choice("Show", { all: "all", edited: "set by hand", moved: "changed" }, view.which,
    (value) => { view.which = value; filter(); });
  const order = choice("Order", { ...(grouped && { group: "by group" }), size: "by what they add", name: "by name" }, view.order,
    (value) => { view.order = value; arrange(); });
  const target = choice("Adds to", { "": "the predicted class", ...Object.fromEntries(classes.map((name, i) => [i, name])) }, "",
    (value) => store.set({ target: value === "" ? null : Number(value) }));
  const back = h("button", { type: "button", onclick: () => undo(store), title: "Ctrl+Z" }, "Undo");
  const forth = h("button", { type: "button", onclick: () => redo(store), title: "Ctrl+Shift+Z" }, "Redo");
  const reset = h("button", { type: "button", onclick: () => { change(store, {}); say("All is as the model says again."); } }, "Reset all");
  const title = h("h2", {}, `${kinds[0].toUpperCase()}${kinds.slice(1)}`);

  slot.append(title, h("div.tools", {}, back, forth, reset, search, which, order, target), hint(), count, list);
  slot.hidden = true;

  let image = null;
  // By each answer, also one that says the same: what was set, and taken back before it came, stands in the controls.
  store.on(["before", "after", "answers"], ({ before, after, image: now }) => {
    slot.hidden = !before;
    if (!before) return;
    const most = Math.max(...before.contributions.map(Math.abs), ...(after?.contributions ?? [0]).map(Math.abs));
    const span = spanOf(before.values);
    write([before, after, most, span], image !== now);
    if (image !== now) arrange(); // not while sliders move: nothing jumps away under the pointer
    else showFree();
    image = now;
    filter();
  });
  store.on(["edits", "undoable", "redoable"], ({ edits, undoable, redoable }) => {
    back.disabled = !undoable;
    forth.disabled = !redoable;
    reset.disabled = Object.keys(edits).length === 0;
  });
  store.on(["refused"], ({ refused }) => { // what was set stands in the rows until they are written again
    if (!refused || !said) return;
    write(said, true);
    showFree();
  });
  back.disabled = forth.disabled = reset.disabled = true;

  let said = null, behind = [], waiting = null, unset = [];
  const inSight = new Set();
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const unit = Number(target.dataset.unit);
      if (isIntersecting) { inSight.add(unit); if (said) rows[unit].show(...said); } else inSight.delete(unit);
    }
  }, { rootMargin: "400px" });
  if (rows.length > AT_ONCE) for (const { element } of rows) sight.observe(element);

  /** Write what is said of the units into their rows: of many at first those in sight, unless all are new. */
  function write(now, isNew) {
    said = now;
    clearTimeout(waiting);
    const some = rows.length > AT_ONCE && !isNew;
    behind = some ? names.map((_, unit) => unit).filter((unit) => !inSight.has(unit)) : [];
    rows.forEach((row, unit) => { if (!some || inSight.has(unit)) row.show(...said); });
    if (behind.length) waiting = setTimeout(follow);
  }

  function follow() {
    for (const unit of behind.splice(0, AT_ONCE)) rows[unit].show(...said);
    if (behind.length) waiting = setTimeout(follow);
  }

  function hint() {
    const said = kind === "prototype"
      ? "A slider multiplies what the prototype counts: 0 switches it off, 1 leaves it as it is."
      : controls.some(({ set }) => set === "truth")
        ? `A slider sets a concept from 0, false, to 1, true${edit_note ? ", and stands where it is between what counts as these" : ""}. Of a group that excludes each other, a 1 clears the others.`
        : `A slider sets the ${kind} to a value; 0 switches it off.`;
    return h("p.quiet", {}, said, edit_note && kind !== "prototype" ? ` ${edit_note[0].toUpperCase()}${edit_note.slice(1)}.` : "");
  }

  /** How far values without ends of their own go in this image. */
  function spanOf(values) {
    const free = values.filter((value, unit) => value != null && controls[unit].set === "value" && controls[unit].least == null);
    const most = Math.max(1e-6, ...free.map(Math.abs));
    const step = 10 ** Math.floor(Math.log10(most));
    const end = Math.ceil((1.5 * most) / step) * step;
    return { least: free.some((value) => value < 0) ? -end : 0, most: end };
  }

  /** Put the rows in their order: not while sliders move. */
  function arrange() {
    const { before, after } = store.get();
    if (view.order === "group") {
      list.replaceChildren(...blocks());
      showFree();
    } else {
      const units = names.map((_, unit) => unit);
      const size = (unit) => Math.abs((after ?? before).contributions[unit]);
      if (view.order === "size") units.sort((a, b) => size(b) - size(a));
      else units.sort((a, b) => names[a].localeCompare(names[b], undefined, { numeric: true }));
      list.replaceChildren(h("ul", {}, units.map((unit) => rows[unit].full())));
    }
    filter();
  }

  /** Choose "as predicted" where nothing of a group is set by hand. */
  function showFree() {
    const { edits } = store.get();
    for (const [free, members] of unset) free.checked = !members.some((name) => name in edits);
  }

  /** The groups, one after the other; those of one member alone stand together, without a heading. */
  function blocks() {
    const made = [], alone = [];
    unset = []; // of each exclusive group what leaves it as predicted, and its members
    const inGroup = new Set(groups.flatMap(({ units }) => units));
    for (const { name, units, exclusive } of groups) {
      if (units.length === 1) { alone.push(units[0]); continue; }
      const members = units.map((unit) => names[unit]);
      const free = exclusive && h("input", { type: "radio", name: `group ${name}`,
        onchange: () => change(store, without(store.get().edits, members)) });
      if (free) unset.push([free, members]);
      const clear = free && h("label.clear", {}, free, " as predicted");
      made.push(h("fieldset.group", { role: exclusive ? "radiogroup" : "group" },
        h("legend", {}, name, " ", exclusive && h("span.quiet", {}, "one at most holds"), clear),
        h("ul", {}, units.map((unit) => rows[unit].short(name)))));
    }
    alone.push(...names.map((_, unit) => unit).filter((unit) => !inGroup.has(unit)));
    if (alone.length) made.push(h("ul", {}, alone.map((unit) => rows[unit].full())));
    return made;
  }

  /** Hide what is not looked for. */
  function filter() {
    const { before, after, edits } = store.get();
    if (!before) return;
    const words = view.words.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, unit) => {
      const fits = words.every((word) => names[unit].toLowerCase().includes(word));
      const wanted = view.which === "all" || (view.which === "edited" ? names[unit] in edits : row.changed(before, after));
      row.element.hidden = !(fits && wanted);
      found += fits && wanted;
    });
    for (const group of list.children) group.hidden = !group.querySelector("li:not([hidden])");
    const filtered = words.length > 0 || view.which !== "all";
    count.textContent = filtered ? `${found} of ${names.length} ${kinds} shown` : "";
  }

  const keys = (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || /^(text|search|password)$/.test(event.target.type ?? "")) return;
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      if (key === "y" || event.shiftKey) redo(store);
      else undo(store);
    }
  };
  document.addEventListener("keydown", keys);
  return () => {
    document.removeEventListener("keydown", keys);
    sight.disconnect();
    clearTimeout(waiting);
  };
}

function choice(title, options, value, then) {
  const select = h("select", { onchange: () => then(select.value) },
    Object.entries(options).map(([key, text]) => h("option", { value: key, selected: key === String(value) }, text)));
  return h("label", {}, `${title} `, select);
}
