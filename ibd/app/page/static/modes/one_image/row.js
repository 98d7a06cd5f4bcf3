// One unit: its name, its value before and after, what it adds to the class, and what sets it by hand.

import { h, plain, quantity, signed } from "../../ui.js";
import { change, endGesture, withdraw, without } from "./state.js";

const SEEN = 0.005; // less does not show in two digits

export function makeRow(unit, store, context) {
  const { names, controls, groups, kind } = context.info;
  const name = names[unit], control = controls[unit];
  const group = groups.find(({ units, exclusive }) => exclusive && units.includes(unit) && units.length > 1);
  const siblings = group ? group.units.filter((other) => other !== unit).map((other) => names[other]) : [];
  const gesture = `slider ${unit}`;
  let dragged = false, scrolled = false, typing = false, wanted = null, shown = null, place = 0;

  const title = h("button.name", { type: "button", "aria-expanded": "false", onclick: open }, name);
  const value = h("span.value"), mark = h("span.mark"), detail = h("span.detail.quiet");
  const bar = h("span"), ghost = h("span.earlier", { hidden: true }), added = h("span.number");
  const bars = h("span.signed", { "aria-hidden": "true" }, bar, ghost);
  const adds = h("span.adds", {}, bars, added);
  const fixed = control.set === "fixed";
  const toggle = !fixed && makeToggle();
  const slider = !fixed && h("input.slider", { type: "range", min: 0, max: 1, step: "any", "aria-label": name,
    oninput: () => { dragged = true; later(Number(slider.value)); },
    onchange: () => { dragged = false; if (!scrolled) later(Number(slider.value)); },
    onkeydown: steps,
    onpointerdown: () => { scrolled = false; },
    onpointerup: () => { dragged = false; },
    onpointercancel: () => { // a finger that was put here to scroll the page has set nothing
      scrolled = true;
      dragged = false;
      wanted = null;
      slider.value = place;
      withdraw(store, gesture);
    } });
  const number = !fixed && h("input.exact", { type: "number", step: "any", "aria-label": `${name}: exact value`,
    oninput: () => { typing = true; },
    onchange: () => { typing = false; if (number.value !== "") set(Number(number.value)); },
    onblur: () => { typing = false; fill(); } });
  const reset = h("button.small.reset", { type: "button", hidden: true, "aria-label": `Reset ${name}`, title: "as the model says",
    onclick: () => { change(store, without(store.get().edits, [name])); title.focus(); } }, "×");
  const element = h("li.unit", { "data-unit": unit,
    onpointerenter: () => store.set({ hovered: unit }), onpointerleave: () => store.set({ hovered: null }),
    onfocusin: () => store.set({ hovered: unit }), onfocusout: () => store.set({ hovered: null }) },
    h("span.named", {}, title, mark, detail), value, adds,
    fixed ? h("span.control.quiet", {}, "cannot be set") : h("span.control", {}, toggle, slider, number, reset));
  store.on(["opened"], ({ opened }) => {
    title.setAttribute("aria-expanded", String(opened === unit));
    element.classList.toggle("opened", opened === unit);
  });

  store.on(["refused"], () => { shown = null; }); // the slider stands where it was dragged to

  function open() {
    store.set({ opened: store.get().opened === unit ? null : unit });
  }

  /** A radio of an exclusive group, or a switch: of a truth value to 1 and 0, of anything else off and on. */
  function makeToggle() {
    if (control.set === "quantity") return h("span.toggle");
    if (group) {
      return h("input.toggle", { type: "radio", name: `group ${group.name}`, "aria-label": `${name} holds`,
        onchange: () => set(1) });
    }
    const box = h("input.toggle", { type: "checkbox", role: "switch",
      "aria-label": control.set === "truth" ? `${name} holds` : `${name} is on`,
      onchange: () => {
        if (control.set === "truth") set(box.checked ? 1 : 0);
        else if (box.checked) change(store, without(store.get().edits, [name]));
        else set(0);
      } });
    return box;
  }

  /** Set the unit. A certain 1 of an exclusive group replaces what was set of the others. */
  function set(now, step = null) {
    shown = null; // the control stands where a person has put it
    const kept = control.set === "truth" && now === 1 ? without(store.get().edits, siblings) : store.get().edits;
    if (kept[name] !== now || kept !== store.get().edits) change(store, { ...kept, [name]: now }, step);
  }

  /** Follow a slider once for each picture of the screen. */
  function later(now) {
    if (wanted === null) {
      requestAnimationFrame(() => {
        if (wanted === null) return;
        const value = wanted;
        wanted = null;
        set(value, gesture);
        if (!dragged) endGesture(store);
      });
    }
    wanted = now;
  }

  /** Arrow keys move by a hundredth of the slider, page keys by a tenth. */
  function steps(event) {
    scrolled = false;
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    const [least, most] = [Number(slider.min), Number(slider.max)];
    const hundredth = (most - least) / 100;
    const at = Math.round((Number(slider.value) - least) / hundredth) + by;
    slider.value = Math.min(most, Math.max(least, least + at * hundredth));
    wanted = null; // of an earlier key, such as Home
    set(Number(slider.value));
  }

  const read = (number) => (control.set === "quantity" && number != null ? quantity(number, control) : plain(number));

  const detailOf = (before, now) => (now.details ?? before.details)[unit];

  /** Whether it is another than before, by hand or along with others. */
  const changed = (before, after) => name in store.get().edits ||
    (after != null && Math.abs(after.values[unit] - before.values[unit]) >= SEEN * (control.deviation ?? 1));

  /** Show what the predictions say of the unit; nothing is done where that is shown already. */
  function show(before, after, most, span) {
    const { edits } = store.get();
    const now = after ?? before, byHand = name in edits;
    const all = [before.values[unit], now.values[unit], now.contributions[unit], after?.contributions_before[unit],
      most, span.least, span.most, edits[name], now.stands[unit], now.edited[unit], now.moved[unit], detailOf(before, now), after == null];
    if (shown && all.every((value, index) => value === shown[index])) return;
    shown = all;
    const other = changed(before, after);
    value.replaceChildren(...(other && read(before.values[unit]) !== read(now.values[unit])
      ? [h("s", { "aria-label": `before ${read(before.values[unit])},` }, read(before.values[unit])), " → ", read(now.values[unit])]
      : [read(now.values[unit])]));
    mark.textContent = byHand ? "set by hand" : after?.edited[unit] ? "follows" : after && now.moved[unit] ? "moved along" : "";
    element.classList.toggle("edited", byHand);
    element.classList.toggle("moved", !byHand && other);
    reset.hidden = !byHand;
    detail.textContent = detailOf(before, now);
    showAdds(now.contributions[unit], after?.contributions_before[unit], most);
    if (!fixed) showControl(now, edits, span);
  }

  function showAdds(part, earlier, most) {
    const place = (piece, number) => {
      const share = most > 0 ? (50 * Math.abs(number)) / most : 0;
      piece.style.left = `${number < 0 ? 50 - share : 50}%`;
      piece.style.width = `${share}%`;
    };
    place(bar, part);
    bars.classList.toggle("against", part < 0);
    ghost.hidden = earlier == null || Math.abs(earlier - part) < SEEN;
    if (!ghost.hidden) place(ghost, earlier);
    added.textContent = signed(part);
    added.setAttribute("aria-label", `adds ${signed(part)}`);
  }

  /** Write what was set into the field, but not over what is being typed. */
  function fill() {
    const set = store.get().edits[name];
    number.value = set == null ? "" : Number(set.toFixed(4));
  }

  function showControl(now, edits, span) {
    const { least, most } = control.least == null ? span : control;
    const at = edits[name] ?? (control.set === "factor" ? 1 : now.stands[unit]);
    place = at;
    if (!dragged) {
      slider.min = Math.min(least, at);
      slider.max = Math.max(most, at);
      slider.value = at;
    }
    slider.setAttribute("aria-valuetext", control.set === "factor" ? `times ${plain(at)}` : read(at));
    if (!typing) fill();
    number.placeholder = control.set === "factor" ? "× 1" : control.set === "quantity" ? read(at).split(" ")[0] : read(at);
    if (toggle.type === "radio") toggle.checked = edits[name] === 1;
    if (toggle.type === "checkbox") toggle.checked = control.set === "truth" ? now.present[unit] : at !== 0 || edits[name] !== 0;
  }

  return {
    element,
    show,
    changed,
    full() { title.textContent = name; return element; },
    /** The row inside of its group: without the name of the group before its own. */
    short(groupName) {
      title.textContent = name.startsWith(`${groupName}::`) ? name.slice(groupName.length + 2) : name;
      title.setAttribute("aria-label", name);
      return element;
    },
  };
}
