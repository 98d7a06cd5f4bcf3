// The gallery: a card for each unit, with what it is or where it is strongest.

import { get, post } from "../../api.js";
import { alertOf, h, plain, say, signed } from "../../ui.js";
import { until } from "../until.js";

const PAGE = 48;

/**
 * Show the cards.
 *   shared: {about, context, path, signal};  edits: what is wanted of prototypes (edits.js), or null
 */
export function mountGallery(slot, shared, edits) {
  const { about, context, path, signal } = shared;
  const { names, classes, kind, kinds } = context.info;
  const nameable = new Set(about.nameless);
  const given = { ...about.names };
  const drafts = {}; // what is being typed, and not saved yet: cards are drawn anew meanwhile
  const known = { usage: null, sources: null, strongest: null, proposals: {} };
  const view = { words: "", owner: "", which: about.on ? "on" : "all", order: "number", count: PAGE };
  let renamed = null;
  const waiting = h("div"), list = h("ul.cards"), count = h("p.quiet", { role: "status" });
  const more = h("button", { type: "button", onclick: () => { view.count += PAGE; draw(); } }, "Show more");
  function intro() {
    const said = about.patches
      ? "Each prototype is a patch of a training image: framed in it, and cut out. An image is taken for a class because its parts look like these."
      : about.axes != null
        ? `The first ${about.axes} axes stand for concepts; the others stand for nothing that anybody named. Shown are the training images in which each is highest.`
        : about.found
          ? "These concepts were found, and nobody labelled them. Shown are the training images in which each is highest: name those that show one thing."
          : `Shown are the training images in which each ${kind} is highest.`;
    return h("p.quiet", {}, said);
  }

  function tools() {
    const search = h("input", { type: "search", placeholder: `Search ${names.length} ${kinds}`, "aria-label": `Search ${kinds}`,
      oninput: () => { view.words = search.value.toLowerCase(); view.count = PAGE; draw(); } });
    const parts = [search];
    if (about.owner) parts.push(choice("Class", { "": "all", ...Object.fromEntries(classes.map((name, i) => [i, name])) }, "owner"));
    if (about.on) parts.push(choice("Show", { on: "those that are on", off: "those that are off", all: "all", edited: "those to be edited" }, "which"));
    else if (nameable.size) parts.push(choice("Show", { all: "all", named: "named", nameless: "without a name" }, "which"));
    parts.push(choice("Order", { number: "by number", ...(about.prototypes && { leads: "by how often they decide" }), name: "by name" }, "order"));
    return h("div.tools", {}, parts);
  }

  function choice(text, options, key) {
    const select = h("select", { onchange: () => { view[key] = select.value; view.count = PAGE; draw(); } },
      Object.entries(options).map(([value, said]) => h("option", { value, selected: value === view[key] }, said)));
    return h("label", {}, `${text} `, select);
  }

  async function fetchAll() {
    try {
      if (about.patches) known.sources = (await wait("/sources")).sources;
      draw();
      if (about.prototypes) known.usage = (await wait("/usage")).usage;
      draw();
      if (!about.patches) known.strongest = await wait("/strongest");
      draw();
      if (nameable.size && known.strongest) known.proposals = (await wait("/proposals")).proposals;
      draw();
    } catch (error) {
      if (error.name !== "AbortError") alertOf(error);
    }
  }

  const wait = (rest) => until(() => get(path(rest)), waiting, signal);
  const called = (unit) => given[names[unit]] ?? names[unit];

  function chosen() {
    const units = names.map((_, unit) => unit).filter((unit) => {
      const owner = about.owner ? classes[about.owner[unit]] : "";
      if (view.words && !`${called(unit)} ${names[unit]} ${owner}`.toLowerCase().includes(view.words)) return false;
      if (view.owner !== "" && about.owner && about.owner[unit] !== Number(view.owner)) return false;
      if (view.which === "on" || view.which === "off") return about.on[unit] === (view.which === "on") || Boolean(edits?.of(unit));
      if (view.which === "edited") return Boolean(edits.of(unit));
      if (view.which === "named") return names[unit] in given;
      if (view.which === "nameless") return nameable.has(names[unit]) && !(names[unit] in given);
      return true;
    });
    if (view.order === "leads" && known.usage) units.sort((a, b) => known.usage.leads[b] - known.usage.leads[a] || a - b);
    if (view.order === "name") units.sort((a, b) => called(a).localeCompare(called(b)) || a - b);
    return units;
  }

  function draw() {
    const units = chosen();
    count.textContent = `${units.length} of ${names.length} ${kinds}`;
    more.hidden = units.length <= view.count;
    const focused = document.activeElement?.closest?.(".card")?.dataset.unit;
    const control = document.activeElement?.dataset?.control;
    list.replaceChildren(...units.slice(0, view.count).map(card));
    if (focused != null) list.querySelector(`[data-unit="${focused}"] [data-control="${control}"]`)?.focus();
  }

  function card(unit) {
    const owner = about.owner ? classes[about.owner[unit]] : null;
    const wish = edits?.of(unit);
    const off = about.on && !about.on[unit];
    const id = `unit-${unit}`;
    return h("li.card", { class: `${off ? "off " : ""}${wish ? "edited" : ""}`, "data-unit": String(unit), "aria-labelledby": id },
      h("h3", { id }, called(unit), called(unit) !== names[unit] ? h("span.quiet", {}, ` (${names[unit]})`) : ""),
      owner == null ? null : h("p.owner", {}, owner, off ? h("span.badge", {}, "off") : ""),
      about.patches ? source(unit, wish) : examples(unit),
      facts(unit),
      wish ? h("p.wish", {}, edits.words(unit)) : null,
      edits ? buttons(unit, off, wish) : null,
      nameable.has(names[unit]) ? nameField(unit) : null);
  }

  function source(unit, wish) {
    const found = wish?.replace ?? known.sources?.[unit];
    if (!known.sources) return h("p.quiet", {}, "…");
    if (!found) return h("p.quiet", {}, "The image that it is a patch of is not in the data any more.");
    const image = `train:${found.image}`;
    const alt = `Patch of ${found.name}`;
    return h("div.patch", {},
      h("img.cut", { src: path("/image", { image, box: found.box.join(",") }), alt, loading: "lazy" }),
      h("a.whole", { href: context.link({ mode: "image", parameters: { image } }), title: found.name },
        h("img", { src: path("/image", { image }), alt: `${found.name}, look at this image`, loading: "lazy" }), framed(found.box)));
  }

  function examples(unit) {
    const { strongest } = known;
    if (!strongest) return h("p.quiet", {}, "…");
    // A score of 0 is that of what is absent: its image is no example.
    const there = strongest.images[unit].map((index, i) => [index, strongest.scores[unit][i]]).filter(([, score]) => score !== 0);
    if (!there.length) return h("p.quiet", {}, "In no training image.");
    return h("div.examples", {}, there.map(([index, value]) => {
      const image = `train:${index}`;
      const score = plain(value);
      return h("a", { href: context.link({ mode: "image", parameters: { image } }), title: `${score}` },
        h("img", { src: path("/image", { image }), alt: `training image ${index}, ${score}`, loading: "lazy" }));
    }));
  }

  function facts(unit) {
    const lines = [];
    const { usage } = known;
    if (about.counts) {
      const most = about.counts.most[unit];
      if (most > 0) lines.push(`counts ${signed(most)} for ${classes[about.counts.class[unit]]}`);
      else lines.push("counts for no class");
    }
    if (usage) lines.push(`decides ${usage.leads[unit]} of ${usage.images} validation images`);
    return lines.length ? h("p.facts", {}, lines.join(" · ")) : null;
  }

  function buttons(unit, off, wish) {
    const name = names[unit];
    const button = (control, text, act, said, pressed = null) => h("button.small", { type: "button", "data-control": control,
      "aria-pressed": pressed == null ? null : String(pressed), "aria-label": `${text} ${name}`,
      onclick: () => { act(); draw(); say(said()); } }, text);
    const now = () => `${name}: ${edits.words(unit) || "as it is"}`;
    return h("div.tools", {},
      off ? null : button("forget", "Forget", () => edits.toggle(unit, "forget"), now, wish?.kind === "forget"),
      off ? button("keep", "Keep", () => edits.toggle(unit, "keep"), now, wish?.kind === "keep") : null,
      about.patches ? h("button.small", { type: "button", "data-control": "replace", "aria-label": `Replace ${name}`,
        onclick: () => edits.choosePatch(unit, draw) }, "Replace…") : null,
      wish ? button("back", "As it was", () => edits.clear(unit), now) : null);
  }

  function nameField(unit) {
    const name = names[unit];
    const proposal = known.proposals[name];
    const input = h("input", { type: "text", maxLength: 80, value: drafts[name] ?? given[name] ?? "", placeholder: "no name yet",
      oninput: () => { drafts[name] = input.value; }, "aria-label": `Name of ${name}`, "data-control": "name" });
    const form = h("form.naming", { onsubmit: (event) => { event.preventDefault(); save(input.value); } },
      input, h("button.small", { type: "submit", "data-control": "save" }, "Name"));
    const use = proposal && !(name in given)
      ? h("p.facts", {}, "Perhaps ", h("button.small", { type: "button", "data-control": "use", onclick: () => save(proposal.name) }, proposal.name),
        ` (${proposal.because} for this label in the training images)`) : null;
    async function save(text) {
      alertOf(null);
      try {
        const { names: all } = await post(path("/names"), { unit: name, name: text });
        for (const key of Object.keys(given)) delete given[key];
        Object.assign(given, all);
        delete drafts[name];
        draw();
        list.querySelector(`[data-unit="${unit}"] [data-control="name"]`)?.focus();
        if (renamed) renamed.hidden = !about.found || !Object.keys(given).length;
        say(text ? `${name} is called ${text}.` : `${name} has no name.`);
      } catch (error) {
        alertOf(error);
      }
    }
    return h("div", {}, form, use);
  }

  function naming() {
    const result = h("p", { role: "status" });
    const save = h("button", { type: "button", onclick: async () => {
      save.disabled = true;
      alertOf(null);
      try {
        const { folder, run } = await post(path("/named"), {});
        result.replaceChildren("Saved as ", h("code", {}, folder), ". ", openRun(context, run));
      } catch (error) {
        alertOf(error);
      }
      save.disabled = false;
    } }, "Save as a new run with these names");
    renamed = h("div", { hidden: !about.found || !Object.keys(given).length }, save, result);
    return h("div", {}, h("p.quiet", {}, "Names are written to ", h("code", {}, about.names_file), ", as they are given."), renamed);
  }

  slot.append(intro(), tools(), waiting, count, list, more, ...(nameable.size ? [naming()] : []));
  if (edits) edits.onDropped = draw;
  draw();
  fetchAll();
}

/** A link that opens a run which this page did not know when it was loaded. */
export function openRun(context, run) {
  return h("a.button", { href: context.link({ run, mode: "model" }), onclick: (event) => {
    event.preventDefault();
    location.hash = context.link({ run, mode: "model" });
    location.reload();
  } }, "Open it");
}

/** A frame around a part of a picture, told in shares of it. */
export function framed([top, left, bottom, right]) {
  const part = (share) => `${100 * share}%`;
  return h("span.frame", { "aria-hidden": "true", style: { top: part(top), left: part(left), height: part(bottom - top), width: part(right - left) } });
}
