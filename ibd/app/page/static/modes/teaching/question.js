// One group of concepts of an image, and what a person says of it: which member holds, which of them hold, or a number.

import { h, percent, quantity } from "../../ui.js";

const TWICE = 700; // milliseconds within which two digits are one number

/**
 * Show a group as a form.
 *   group: {name, units, exclusive, answer};  info: what the run is;  values: what the model says now;
 *   done(values): called with unit name -> value, or null where the person does not know
 * Returns {element, key(event): whether the key meant something here, focus()}.
 */
export function makeQuestion(group, info, values, done) {
  const options = optionsOf(group, info, values);
  const { inputs } = options;
  const submit = h("button.primary", { type: "submit", "aria-keyshortcuts": "Enter" }, "That is so ", h("kbd", {}, "Enter"));
  const unknown = h("button", { type: "button", "aria-keyshortcuts": "u", onclick: () => done(null) }, "I cannot tell ", h("kbd", {}, "U"));
  const element = h("form.question", { onsubmit: (event) => { event.preventDefault(); answer(); } },
    h("fieldset", {},
      h("legend", {}, group.name, " ", h("span.quiet", {}, options.note)),
      h("div.options", {}, options.rows)),
    h("div.tools", {}, submit, unknown));

  function answer() {
    const said = options.read();
    if (said) done(said);
  }

  let typed = "", when = 0;
  function key(event) {
    const writing = event.target.matches?.('input[type="number"], input[type="text"], input[type="search"], select, textarea');
    if (event.key === "Enter" && !event.target.closest?.("button, a, summary, select")) {
      answer();
      return true;
    }
    if (writing) return false;
    if (event.key.toLowerCase() === "u") {
      done(null);
      return true;
    }
    if (!/^\d$/.test(event.key) || !inputs.length) return false;
    const now = performance.now();
    typed = inputs.length > 10 && now - when < TWICE ? typed + event.key : event.key;
    when = now;
    const input = inputs.find(({ digit }) => digit === Number(typed))?.input;
    if (input) {
      input.checked = input.type === "radio" ? true : !input.checked;
      input.focus();
    }
    return true;
  }

  function focus() {
    const first = inputs.find(({ input }) => input.checked) ?? inputs[0];
    (first?.input ?? element.querySelector("input")).focus();
  }

  return { element, key, focus };
}

/** The fields of a group: {rows, inputs: [{digit, input}], read(): values or null, note}. */
function optionsOf(group, info, values) {
  const { units } = group;
  const control = (unit) => info.controls[unit];
  if (units.some((unit) => control(unit).set === "quantity")) return numbers(group, info, values);
  const short = (unit) => info.names[unit].replace(`${group.name}::`, "");
  const chosen = (unit) => (group.answer ? (group.answer[info.names[unit]] ?? 0) > 0.5 : values[unit] > 0.5);
  const named = (unit, value) => ({ [info.names[unit]]: value });
  if (units.length === 1) {
    const [unit] = units;
    const yes = radio(group, 1, "present", values[unit], chosen(unit));
    const no = radio(group, 0, "absent", 1 - values[unit], !chosen(unit));
    return { ...together([yes, no]), read: () => named(unit, yes.input.checked ? 1 : 0), note: "is it there?" };
  }
  if (!group.exclusive) {
    const boxes = units.map((unit, i) => box(i + 1, short(unit), values[unit], chosen(unit)));
    const read = () => Object.assign({}, ...boxes.map(({ input }, i) => named(units[i], input.checked ? 1 : 0)));
    return { ...together(boxes), read, note: "which of these are there?" };
  }
  const best = units.filter(chosen).sort((a, b) => values[b] - values[a])[0];
  const members = units.map((unit, i) => radio(group, i + 1, short(unit), values[unit], unit === best));
  const left = Math.max(0, 1 - units.reduce((sum, unit) => sum + values[unit], 0));
  const none = radio(group, 0, "none of these", left, best == null);
  function read() {
    const at = members.findIndex(({ input }) => input.checked);
    // One that holds clears the others, as `intervene` has it; that none holds is said of each.
    return at >= 0 ? named(units[at], 1) : Object.assign({}, ...units.map((unit) => named(unit, 0)));
  }
  return { ...together([...members, none]), read, note: "which one is it?" };
}

const together = (entries) => ({ rows: entries.map(({ row }) => row), inputs: entries });

function radio(group, digit, text, share, checked) {
  return field(h("input", { type: "radio", name: `question-${group.name}`, checked }), digit, text, share);
}

function box(digit, text, share, checked) {
  return field(h("input", { type: "checkbox", checked }), digit, text, share);
}

function field(input, digit, text, share) {
  const row = h("label.option", {}, input, h("kbd", {}, String(digit)), h("span.what", {}, text),
    h("span.share", {}, h("span.hidden", {}, ", the model says "), percent(share)));
  return { row, input, digit };
}

/** Groups with numbers: a field for each, which begins at what the model says. */
function numbers(group, info, values) {
  const fields = group.units.map((unit) => {
    const control = info.controls[unit];
    const given = group.answer?.[info.names[unit]];
    const digits = Math.min(12, Math.max(0, 2 - Math.floor(Math.log10(control.deviation || 1))));
    const input = h("input", { type: "number", step: "any", required: true, value: (given ?? values[unit]).toFixed(digits) });
    const said = control.set === "quantity" ? quantity(values[unit], control) : percent(values[unit]);
    return { unit, input, row: h("label.option", {}, h("span.what", {}, info.names[unit]), input, ` ${control.unit ?? ""} `,
      h("span.share", {}, h("span.hidden", {}, "the model says "), said)) };
  });
  function read() {
    const bad = fields.find(({ input }) => !input.reportValidity());
    return bad ? null : Object.fromEntries(fields.map(({ unit, input }) => [info.names[unit], Number(input.value)]));
  }
  return { rows: fields.map(({ row }) => row), inputs: [], read, note: "how much is it?" };
}
