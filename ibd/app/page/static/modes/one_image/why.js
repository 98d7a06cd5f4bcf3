// What would change the answer: the smallest change of units, and which are enough; made by one click.

import { post, runPath } from "../../api.js";
import { h, percent, say } from "../../ui.js";
import { change } from "./state.js";
import { named, progress, tab, until } from "./waiting.js";

export function mount(slot, store, context) {
  let waiting = new AbortController(), ours = false;
  const { classes, controls, kinds, additive, coupled } = context.info;
  const wanted = h("select", { id: "wanted" });
  const smallest = h("select", { id: "smallest" },
    h("option", { value: "count" }, `as few ${kinds} as possible`), additive && !coupled && h("option", { value: "amount" }, "as little as possible in all"));
  const found = h("div"), again = h("button", { type: "submit" }, "Look for it");
  slot.append(h("h2", {}, "What would change the answer"),
    h("form.controls", { onsubmit: (event) => { event.preventDefault(); look(); } },
      named("It becomes", wanted), named("by", smallest), again), found);
  slot.hidden = true;

  const ends = [
    store.on(["image"], forget),
    store.on(["edits"], () => { if (!ours) forget(); }),
    store.on(["before", "after"], fill),
  ];
  return () => { waiting.abort(); ends.forEach((end) => end()); };

  function forget() {
    waiting.abort();
    found.replaceChildren();
  }

  function fill({ before, after }) {
    slot.hidden = !before;
    if (!before) return;
    const label = (after ?? before).label, value = wanted.value;
    wanted.replaceChildren(h("option", { value: "" }, `any class but ${classes[label]}`),
      ...classes.map((name, index) => [name, index]).filter(([, index]) => index !== label).map(([name, index]) => h("option", { value: index }, name)));
    wanted.value = [...wanted.options].some((option) => option.value === value) ? value : "";
  }

  async function look() {
    waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting, { image, edits } = store.get();
    const bar = h("div"), cancel = h("button.small", { type: "button", onclick: () => { forget(); again.focus(); } }, "Cancel");
    found.replaceChildren(bar, cancel);
    const asked = { image, edits, is: wanted.value === "" ? null : Number(wanted.value), smallest: smallest.value, tab };
    try {
      const answer = await until(() => post(runPath(context.run.key, "why"), asked), (work) => bar.replaceChildren(progress(work)), signal);
      if (answer) show(answer);
    } catch (error) {
      if (!signal.aborted) found.replaceChildren(h("p.quiet", {}, error.message));
    }
  }

  function show({ label, asked, size, now, change: changed, enough }) {
    const headline = changed ? `${asked}: ${size}` : size;
    say(headline);
    found.replaceChildren(h("div", {},
      h("h3", {}, headline),
      changed && h("ul.changes", {}, changed.rows.map((row) => h("li", {},
        h("button.small", { type: "button", onclick: () => make({ [row.name]: row.value }, row.clears), "aria-label": `Set ${row.name} ${told(row)}` }, "Set"),
        h("strong", {}, row.name), h("span", {}, told(row))))),
      changed && whole(changed, changed.rows.length > 1 ? "Set all" : "", "then"),
      h("h3", {}, `Enough for ${label}: ${enough.size}`),
      h("p", {}, enough.kept.join(", ") || "nothing"),
      whole(enough, "Set all others to nothing", "then"),
      h("p.quiet", {}, `Now: ${ranking(now)}.`)));
  }

  /** What a correction does: of a prototype a factor, of others what is read of it before and after. */
  function told(row) {
    if (controls[row.unit].set === "factor") return `× ${Number(row.value.toPrecision(4))}`;
    return `${row.before} → ${row.after}`;
  }

  function whole({ edits, why_not: whyNot, then }, title, word) {
    const button = edits && title && h("button.small", { type: "button", onclick: () => put(edits) }, title);
    return h("p", {}, button, button ? " " : "", `${word}: ${ranking(then)}`, whyNot && h("span.quiet", {}, ` ${whyNot}`));
  }

  function make(values, clears) {
    const edits = { ...store.get().edits };
    for (const name of clears) delete edits[name];
    put({ ...edits, ...values });
  }

  /** Make corrections, and keep what was found beside them. */
  function put(edits) {
    ours = true;
    change(store, edits);
    ours = false;
  }
}

const ranking = (rows) => rows.map((row) => `${row.class} ${percent(row.probability)}`).join(", ");
