// Model: its units one beside the other, their names, what they count for the classes, and prototypes to be edited.
//
//   #/RUN/model                 the gallery
//   #/RUN/model?view=weights    what each unit counts for each class
//   #/RUN/model?edit=NAME       the gallery, with an edit that is being made or was made

import { get, runPath } from "../api.js";
import { h } from "../ui.js";
import { makeEdits } from "./model/edits.js";
import { mountGallery } from "./model/gallery.js";
import { mountWeights } from "./model/weights.js";
import { needsStyle } from "./until.js";

const VIEWS = { gallery: "Gallery", weights: "Weights to the classes" };

export async function mount(root, context) {
  needsStyle("/static/modes/model/model.css");
  const leaving = new AbortController();
  const path = (rest = "", parameters = {}) => runPath(context.run.key, `model${rest}`, parameters);
  const about = await get(path());
  const view = VIEWS[context.parameters.view] ? context.parameters.view : "gallery";
  const part = h("section", { class: `view ${view}` });
  root.append(
    h("h1", {}, "Model"),
    h("p", {}, `${context.info.names.length} ${context.info.kinds}, ${context.info.classes.length} classes. `, history(about.edited)),
    h("nav.views", { "aria-label": "Views of the model" }, Object.entries(VIEWS).map(([key, text]) =>
      h("a", { href: context.link({ parameters: { view: key === "gallery" ? null : key } }), "aria-current": key === view ? "page" : null }, text))));
  const shared = { about, context, path, signal: leaving.signal };
  if (view === "weights") {
    root.append(part);
    mountWeights(part, shared);
  } else {
    const edits = about.prototypes ? makeEdits(shared) : null;
    if (edits) root.append(edits.element);
    root.append(part);
    mountGallery(part, shared, edits);
  }
  return () => leaving.abort();
}

/** What was edited to make this run, in a sentence. */
function history(edited) {
  if (!edited) return null;
  const parts = ["forget", "keep"].filter((key) => edited[key]?.length).map((key) =>
    `${{ forget: "forgot", keep: "kept" }[key]} ${edited[key].join(", ")}`);
  const replaced = Object.keys(edited.replace ?? {});
  if (replaced.length) parts.push(`replaced ${replaced.join(", ")}`);
  const named = Object.keys(edited.names ?? {}).length;
  if (named) parts.push(`named ${named}`);
  return h("span.quiet", {}, `Edited from ${edited.made_of}${parts.length ? `: ${parts.join("; ")}` : ""}.`);
}
