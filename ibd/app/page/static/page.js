// The frame of the page: which run and which mode, by the address after #, so that reload and back work.
//
//   #/RUN/MODE?image=test:17   ->  context.run, context.mode, context.parameters.image
//
// A mode is a module with mount(root, context), called with an empty element each time that the run or the mode
// changes; it may return a function that is called before it goes. When only parameters change, context.onParameters
// is called if the mode has set it, and otherwise the mode is mounted again.

import { get } from "./api.js";
import { alertOf, h } from "./ui.js";

const MODES = {
  image: { title: "One image", load: () => import("./modes/one_image.js") },
  data: { title: "Data set", load: () => import("./modes/data_set.js") },
  model: { title: "Model", load: () => import("./modes/model.js") },
  teach: { title: "Teaching", load: () => import("./modes/teaching.js") },
};

const main = document.getElementById("main");
const runs = new Map();
let shown = null, leave = null, turn = 0;

/** The address of a mode: link({mode: "image", parameters: {image: "test:3"}}); what is left out stays. */
function link({ run = shown?.run.key, mode = shown?.mode ?? "image", parameters = {} } = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value != null)).toString();
  return `#/${encodeURIComponent(run)}/${mode}${query ? `?${query}` : ""}`;
}

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [run, mode] = path.split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return {
    run: runs.get(run) ?? runs.values().next().value,
    mode: MODES[mode] ? mode : "image",
    parameters: Object.fromEntries(new URLSearchParams(query)),
  };
}

async function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // the link that skips to the content
  const wanted = read();
  if (shown && !shown.left && shown.run === wanted.run && shown.mode === wanted.mode && shown.onParameters) {
    shown.parameters = wanted.parameters;
    shown.onParameters(wanted.parameters);
    return;
  }
  const mine = ++turn;
  leave?.();
  leave = null;
  if (shown) shown.left = true;
  alertOf(null);
  frame(wanted);
  main.replaceChildren(h("p.quiet", {}, "…"));
  try {
    const [mode, info] = await Promise.all([MODES[wanted.mode].load(), about(wanted.run)]);
    if (mine !== turn) return;
    const root = h("div", { class: `mode ${wanted.mode}` });
    main.replaceChildren(root);
    const context = shown = {
      ...wanted,
      left: false,   // whether it was gone from: what it still waited for moves the page no more
      info,          // what /api/runs/{run} says: names, groups, controls, classes, kind, ...
      runs: [...runs.values()],
      onParameters: null,
      link,
      /** Go to another address; `replace` without a step of the back button. */
      go(target, { replace = false } = {}) {
        if (context.left) return;
        const address = link(target);
        if (target.parameters && !target.run && !target.mode) context.parameters = { ...target.parameters };
        if (replace) history.replaceState(null, "", address);
        else if (address !== location.hash) location.hash = address;
      },
      alert(error) { if (!context.left) alertOf(error); },
    };
    const end = (await mode.mount(root, context)) ?? null;
    if (mine === turn) leave = end;
    else end?.(); // another mode was gone to meanwhile
  } catch (error) {
    if (mine === turn) {
      main.replaceChildren();
      alertOf(error);
    }
  }
}

const known = new Map();
async function about(run) {
  if (!known.has(run.key)) known.set(run.key, await get(`/api/runs/${encodeURIComponent(run.key)}`));
  return known.get(run.key);
}

function frame({ run, mode }) {
  document.getElementById("run").value = run.key;
  document.title = `${MODES[mode].title} · ${run.key} · ibd`;
  document.getElementById("modes").replaceChildren(
    ...Object.entries(MODES).map(([key, { title }]) =>
      h("a", { href: link({ run: run.key, mode: key }), "aria-current": key === mode ? "page" : null }, title)),
  );
}

async function start() {
  try {
    for (const run of (await get("/api/runs")).runs) runs.set(run.key, run);
  } catch (error) {
    return alertOf(error);
  }
  const choice = document.getElementById("run");
  choice.replaceChildren(...[...runs.values()].map((run) => h("option", { value: run.key, title: run.folder }, run.key)));
  choice.addEventListener("change", () => {
    location.hash = link({ run: choice.value, mode: shown?.mode, parameters: portable(runs.get(choice.value)) });
  });
  addEventListener("hashchange", show);
  return show();
}

/** The parameters that mean the same for another run: an image that was brought, or one of the same data. */
function portable(other) {
  const image = shown?.parameters.image;
  const same = image?.startsWith("upload:") || (other?.data && other.data === shown.run.data);
  return image && same ? { image } : {};
}

start();
