// What the model says of the image: as it is, and beside that with what was set by hand.

import { bar, h, percent, signed } from "../../ui.js";

const FIRST = 5;

export function mount(slot, store, context) {
  const { classes } = context.info;
  let all = false;
  const headline = h("p.headline", { role: "status" });
  const table = h("table.classes", {});
  const more = h("button.small", { type: "button", onclick: () => { all = !all; show(); } });
  const notes = h("ul.notes.quiet");
  slot.append(h("h2", {}, "Prediction"), headline, h("div.scroll", {}, table), ...(classes.length > FIRST ? [more] : []), notes);
  slot.hidden = true;
  store.on(["before", "after"], show);

  function show() {
    const { before, after, truth } = store.get();
    slot.hidden = !before;
    if (!before) return;
    const now = after ?? before;
    headline.replaceChildren(h("strong", {}, answer(now)), after ? ` – before: ${answer(before)}` : "");
    const first = new Set([...now.order.slice(0, FIRST), ...before.order.slice(0, after ? FIRST : 0)]);
    const shown = now.order.filter((index) => all || first.has(index));
    const columns = after ? [["before", before], ["after", after]] : [["", before]];
    table.replaceChildren();
    table.append(
      h("caption.hidden", {}, after ? "Probability of classes before and after" : "Probability of classes"),
      h("thead", {}, after && h("tr", {}, h("th", { scope: "col" }, "class"),
        columns.map(([title]) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, shown.map((index) => row(index, columns, truth))),
    );
    more.textContent = all ? "Fewer classes" : `All ${classes.length} classes`;
    more.setAttribute("aria-expanded", String(all));
    notes.replaceChildren(...[...sets(before, after), ...now.notes].map((note) => h("li", {}, note)));
  }

  function row(index, columns, truth) {
    const name = classes[index];
    return h("tr", {}, h("th", { scope: "row" }, name, name === truth && h("span.chip", {}, "true class")),
      columns.map(([title, said]) => h("td", { class: title, title: `logit ${signed(said.logits[index], 4)}` },
        bar(said.probabilities[index], index === said.label && !said.abstains ? "best" : ""),
        h("span.number", {}, percent(said.probabilities[index])))));
  }

  const answer = (said) => {
    const named = `${said.class} ${percent(said.probabilities[said.label])}`;
    return said.silent ? "abstains" : said.abstains ? `abstains (${named})` : named;
  };

  function sets(before, after) {
    if (!before.class_set) return [];
    const line = (said) => `at coverage ${100 * said.coverage} %: ${said.class_set.join(", ") || "no class"}`;
    return after ? [`before, ${line(before)}`, `after, ${line(after)}`] : [line(before)];
  }
}
