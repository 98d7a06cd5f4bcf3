// A new session of teaching, or one to go on with.

import { post, runPath } from "../../api.js";
import { SPLITS, alertOf, h } from "../../ui.js";
import { until } from "../until.js";

export const ORDERS = {
  random: ["random", "The first images are then like all others: their accuracy is an estimate of that of the whole split, "
    + "and so is each point of the curve."],
  uncertain: ["most uncertain first", "These images are harder than the others: what the curve says holds for them alone, "
    + "not for the split."],
  wrong: ["wrong first", "The curve then begins at 0 %, and holds for these images alone. To know which are wrong takes "
    + "the true classes."],
};
export const GROUPS = {
  uncertain: "most uncertain first",
  random: "random",
  given: "as in the data",
};

export function mountBegin(root, context, about) {
  const leaving = new AbortController();
  const wait = h("div");
  const why = h("p.quiet", { id: "order-why" });
  const choices = {
    split: select("Images", Object.fromEntries(Object.entries(about.splits).map(([name, n]) => [name, `${SPLITS[name]} (${n})`]))),
    order: select("Order of the images", mapped(ORDERS, ([title]) => title), "order-why"),
    groups: select("Order of the concept groups", GROUPS),
  };
  const blind = h("input", { type: "checkbox", checked: true });
  const begin = h("button.primary", { type: "submit" }, "Begin");
  const order = choices.order.querySelector("select");
  const explain = () => { why.textContent = ORDERS[order.value][1]; };
  order.addEventListener("change", explain);
  explain();

  const form = h("form.begin", { onsubmit: start },
    h("div.fields", {}, choices.split, choices.order, choices.groups,
      h("label.check", {}, blind, " Hide the true class")),
    why,
    h("p.quiet", {}, "Every correction is written to ", h("code", {}, about.folder),
      ", one file for each session, as it is made. Images that you bring to the page are never in it."),
    about.thresholds ? h("p.quiet", {}, "The thresholds of this run do not count here: a concept is taken for present above 0.5, and the most "
      + "probable class is the answer, however sure.") : null,
    begin, wait);
  root.append(
    h("p", {}, "Correct what the model sees in one image after the other, one group of concepts at a time. The page writes down "
      + "what you changed, how long it took, and whether the prediction was right before and after: the accuracy by number "
      + "of corrections, as a person really reaches it."),
    form,
    ...(about.sessions.length ? [listed(about.sessions, context)] : []));

  async function start(event) {
    event.preventDefault();
    begin.disabled = true;
    alertOf(null);
    const body = { blind: blind.checked };
    for (const [name, label] of Object.entries(choices)) body[name] = label.querySelector("select").value;
    try {
      const ask = () => post(runPath(context.run.key, "teaching"), body);
      const { session } = await until(ask, wait, leaving.signal);
      context.go({ parameters: { session } });
    } catch (error) {
      alertOf(error);
      begin.disabled = false;
    }
  }
  return () => leaving.abort();
}

function listed(sessions, context) {
  const rows = sessions.map((one) => h("tr", {},
    h("th", { scope: "row" }, title(one.session)),
    one.error
      ? h("td", { colSpan: 5 }, h("span.wrong", {}, one.error))
      : [h("td", {}, SPLITS[one.split]), h("td", {}, ORDERS[one.order]?.[0] ?? one.order), h("td", {}, one.blind ? "hidden" : "shown"),
        h("td.number", {}, `${one.done} of ${one.total}`), h("td.number", {}, String(one.skipped))],
    h("td", {}, one.error ? null : h("a", { href: context.link({ parameters: { session: one.session } }) },
      one.done + one.skipped < one.total ? "Go on" : "Look", h("span.hidden", {}, ` with ${one.session}`)))));
  return h("section", {}, h("h2", {}, "Sessions of this run"),
    h("div.scroll", {}, h("table.sessions", {},
      h("thead", {}, h("tr", {}, ["Begun", "Images", "Order", "True class", "Finished", "Skipped", ""].map((text) =>
        text ? h("th", { scope: "col" }, text) : h("td")))),
      h("tbody", {}, rows))));
}

/** 2026-11-30_12-00-00 as a person writes it. */
export const title = (stamp) => stamp.replace("_", " ").replace(/-(\d\d)-(\d\d)(?=$|_)/, ":$1:$2").replace("_", " ");

function select(name, options, described = null) {
  return h("label", {}, `${name} `,
    h("select", { "aria-describedby": described }, Object.entries(options).map(([value, text]) => h("option", { value }, text))));
}

const mapped = (entries, change) => Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, change(value)]));
