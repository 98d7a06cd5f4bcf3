// A session: an image, what the model says of it, and one group of its concepts after the other.
//
// Where the session stands is what the server says last; the page itself keeps nothing that a reload would lose.

import { get, post, runPath } from "../../api.js";
import { SPLITS, alertOf, bar, h, percent, say } from "../../ui.js";
import { GROUPS, ORDERS, title } from "./begin.js";
import { mountCurve } from "./curve.js";
import { makeQuestion } from "./question.js";

const CLASSES = 5;

export async function mountSession(root, context, stamp) {
  const path = (rest = "", parameters = {}) => runPath(context.run.key, `teaching/${encodeURIComponent(stamp)}${rest}`, parameters);
  let state = await get(path());
  let current = null, question = null, busy = false;
  const clock = makeClock();
  const parts = Object.fromEntries(["head", "picture", "prediction", "question", "groups"].map((name) => [name, h("section", { class: `part-${name}` })]));
  const curve = mountCurve(path, () => state);
  root.append(
    h("h1", {}, "Teaching"), parts.head,
    h("div.columns", {}, h("div.left", {}, parts.picture, parts.prediction), h("div.right", {}, parts.question, parts.groups)),
    curve.element);
  show();
  question?.focus();

  function show(wanted = null) {
    const { image } = state;
    head();
    const columns = root.querySelector(".columns");
    columns.hidden = !image;
    question = null;
    if (!image) {
      curve.open();
      return;
    }
    const open = image.groups.filter(({ answer }) => answer == null);
    current = image.groups.find(({ name }) => name === wanted) ?? open[0] ?? null;
    picture(image);
    prediction(image);
    ask(image);
    groups(image);
    clock.start();
  }

  function head() {
    const { place, total, done, skipped, split, order, groups: by, blind, record, image } = state;
    parts.head.replaceChildren(
      h("p.where", {}, image ? h("strong", {}, `Image ${place + 1} of ${total}`) : h("strong", {}, "All images are finished"),
        ` · ${done} finished, ${skipped} skipped · ${SPLITS[split]} images, ${ORDERS[order]?.[0] ?? order} · groups ${GROUPS[by] ?? by}`
        + ` · true class ${blind ? "hidden" : "shown"}`),
      h("p.quiet", {}, "Written down in ", h("code", {}, record), ". ",
        h("a", { href: context.link() }, `All sessions`), h("span.hidden", {}, ` (this one was begun ${title(stamp)})`)));
  }

  function picture(image) {
    const src = runPath(context.run.key, "model/image", { image: image.image });
    if (parts.picture.dataset.image === image.image) return;
    parts.picture.dataset.image = image.image;
    parts.picture.replaceChildren(h("figure", {},
      h("div.stage", {}, h("img", { src, alt: `Image ${image.title}` })),
      h("figcaption", {}, image.title, image.truth == null ? "" : [" · true class: ", h("strong", {}, image.truth)])));
  }

  function prediction({ before, now, groups: asked }) {
    const { classes } = context.info;
    const shown = [...new Set([before.label, ...now.order.slice(0, CLASSES)])];
    const changed = asked.some(({ answer }) => answer != null);
    parts.prediction.replaceChildren(
      h("h2", {}, "Prediction"),
      h("table.classes", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Class"), h("th", { scope: "col" }, "At first"),
          h("th", { scope: "col", colSpan: 2 }, changed ? "With your answers" : "Now"))),
        h("tbody", {}, shown.map((label) => h("tr", { class: label === now.label ? "best" : "" },
          h("th", { scope: "row" }, classes[label]),
          h("td.number", {}, percent(before.probabilities[label])),
          h("td.number", {}, percent(now.probabilities[label])),
          h("td", {}, bar(now.probabilities[label])))))));
  }

  function ask(image) {
    const left = image.groups.filter(({ answer }) => answer == null).length;
    const next = h("button", { type: "button", class: current ? "" : "primary", "aria-keyshortcuts": "n", onclick: () => finish(false) },
      "Next image ", h("kbd", {}, current ? "N" : "Enter"));
    const skip = h("button", { type: "button", "aria-keyshortcuts": "x", onclick: () => finish(true),
      title: "Leave this image out of the curve" }, "Skip image ", h("kbd", {}, "X"));
    const undo = h("button", { type: "button", "aria-keyshortcuts": "z", disabled: left === image.groups.length, onclick: takeBack },
      "Take back ", h("kbd", {}, "Z"));
    if (current) question = makeQuestion(current, context.info, image.now.values, (values) => answer(current.name, values));
    else question = { focus: () => next.focus(), key: (event) => event.key === "Enter" && !event.target.closest?.("button, a, summary, select") && (finish(false), true) };
    parts.question.replaceChildren(
      h("h2", {}, current ? `What is in the image: ${current.name}` : "Every group is answered"),
      current ? question.element : h("p", {}, "Go on to the next image, or choose a group below to answer it again."),
      h("div.tools", {}, next, skip, undo),
      h("p.quiet.keys", {}, "Keys: digits choose, ", h("kbd", {}, "Enter"), " confirms, ", h("kbd", {}, "U"), " you cannot tell, ",
        h("kbd", {}, "["), " ", h("kbd", {}, "]"), " another group, ", h("kbd", {}, "Z"), " take back, ", h("kbd", {}, "N"),
        " next image, ", h("kbd", {}, "X"), " skip it."));
  }

  function groups(image) {
    parts.groups.replaceChildren(
      h("h2", {}, "Groups"),
      h("ol.groups", {}, image.groups.map((group) => h("li", {},
        h("button", { type: "button", "aria-current": group === current ? "step" : null, class: group.answer == null ? "" : "answered",
          onclick: () => { show(group.name); question?.focus(); } },
          h("span.name", {}, group.name), " ", h("span.said", {}, said(group)))))));
  }

  function said({ answer, units, name }) {
    if (answer == null) return "not answered";
    const entries = Object.entries(answer);
    if (!entries.length) return "you could not tell";
    const short = (unit) => unit.replace(`${name}::`, "");
    if (units.some((unit) => context.info.controls[unit].set === "quantity")) return entries.map(([unit, value]) => `${short(unit)} ${value}`).join(", ");
    const there = entries.filter(([, value]) => value > 0.5).map(([unit]) => (units.length > 1 ? short(unit) : "present"));
    return there.join(", ") || (units.length > 1 ? "none of these" : "absent");
  }

  async function step(change, body, after) {
    if (busy) return;
    busy = true;
    alertOf(null);
    const sent = { place: state.place, step: state.step, ...body };
    try {
      state = await post(path(change), sent);
      show();
      question?.focus();
      after?.();
      curve.changed();
    } catch (error) {
      const gone = error.status === 400;
      alertOf(error);
      if (gone) {
        try {
          state = await get(path());
          show();
          question?.focus();
        } catch { /* the first error says it */ }
      }
    } finally {
      busy = false;
    }
  }

  const nowSays = () => {
    const { now } = state.image;
    return `Now ${context.info.classes[now.label]}, ${percent(now.probabilities[now.label])}.`;
  };

  function answer(group, values) {
    return step("/answer", { group, values, seconds: clock.seconds() }, () => {
      say(`${group}: ${said(state.image.groups.find(({ name }) => name === group))}. ${nowSays()}${current ? ` Next: ${current.name}.` : " Every group is answered."}`);
    });
  }

  function takeBack() {
    const last = state.image.groups.filter(({ answer: given }) => given != null).at(-1);
    if (last) step("/undo", { group: last.name, seconds: clock.seconds() }, () => { say(`${last.name} taken back. ${nowSays()}`); });
  }

  function finish(skip) {
    return step("/finish", { skip, seconds: clock.seconds() }, () => {
      say(state.image ? `Image ${state.place + 1} of ${state.total}. ${nowSays()}` : "All images are finished.");
    });
  }

  function move(by) {
    const { groups: all } = state.image;
    const at = all.indexOf(current);
    show(all[(at + by + all.length) % all.length].name);
    question?.focus();
  }

  function pressed(event) {
    if (!state.image || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== document.body && !root.contains(event.target) && event.target.id !== "main") return;
    const writing = event.target.matches?.('input[type="number"], input[type="text"], input[type="search"], select');
    if (event.repeat && (event.key === "Enter" || (!writing && /^[\dunxz]$/i.test(event.key)))) { // held down, it answers once
      event.preventDefault();
      return;
    }
    if (busy) return;
    let meant = question?.key(event);
    if (!meant && !writing) {
      const actions = { n: () => finish(false), x: () => finish(true), z: takeBack, "[": () => move(-1), "]": () => move(1) };
      const action = actions[event.key.toLowerCase()];
      action?.();
      meant = Boolean(action);
    }
    if (meant) event.preventDefault();
  }

  document.addEventListener("keydown", pressed);
  return () => {
    document.removeEventListener("keydown", pressed);
    clock.stop();
    curve.leave();
  };
}

/** Seconds since `start`, without those in which the page was hidden. */
function makeClock() {
  let spent = 0, since = performance.now();
  const toggle = () => {
    if (document.hidden) spent += performance.now() - since;
    else since = performance.now();
  };
  document.addEventListener("visibilitychange", toggle);
  return {
    start() { spent = 0; since = performance.now(); },
    seconds: () => (spent + (document.hidden ? 0 : performance.now() - since)) / 1000,
    stop: () => document.removeEventListener("visibilitychange", toggle),
  };
}
