// Taking the result along: pictures, JSON, CSV, and the lines of a shell or of Python that do the same.

import { post, runPath } from "../../api.js";
import { h, say } from "../../ui.js";

const REST = 400; // milliseconds after the last change

export function mount(slot, store, context) {
  let timer = null, turn = 0, result = null;
  const shell = line("In a shell"), python = line("In Python"), note = h("p.quiet");
  const mapButton = h("button", { type: "button", onclick: saveMap }, "The shown map (PNG)");
  const own = h("a.button", { download: "" }, "The image (PNG)");
  slot.append(h("h2", {}, "Take it along"),
    h("div.controls", {},
      mapButton,
      h("button", { type: "button", onclick: saveSummary }, "Before and after (PNG)"),
      h("button", { type: "button", onclick: () => result && save(new Blob([JSON.stringify(result.record, null, 1)], { type: "application/json" }), "json") }, "JSON"),
      h("button", { type: "button", onclick: () => result && save(new Blob([result.csv], { type: "text/csv" }), "csv") }, "CSV"),
      own),
    h("p", {}, "The lines that do the same:"), shell.element, python.element, note);
  slot.hidden = true;

  const ends = [
    store.on(["before", "edits"], ({ before, image }) => {
      slot.hidden = !before;
      if (!before) return;
      own.href = runPath(context.run.key, "file", { image });
      clearTimeout(timer);
      timer = setTimeout(refresh, REST);
    }),
    store.on(["layer"], ({ layer }) => { mapButton.disabled = !layer; }),
  ];
  mapButton.disabled = true;
  return () => { clearTimeout(timer); ends.forEach((end) => end()); };

  async function refresh() {
    const { image, edits, before } = store.get(), mine = ++turn;
    if (!before) return;
    try {
      const answer = await post(runPath(context.run.key, "result"), { image, edits });
      if (mine !== turn) return;
      result = answer;
      shell.set(answer.shell);
      python.set(answer.python);
      note.textContent = answer.note;
    } catch (error) {
      if (error.status !== 400) context.alert(error); // a value that is refused is said where it was set
    }
  }

  async function saveMap() {
    const { image, layer, opacity } = store.get();
    if (!layer) return;
    const about = layer.unit == null
      ? { explainer: layer.explainer, target: layer.target, names: layer.names, scale: layer.scale } : { unit: layer.unit };
    await fetched("map", { image, opacity, ...about }, "map.png");
  }

  function saveSummary() {
    const { image, edits } = store.get();
    return fetched("summary", { image, edits }, "before_and_after.png");
  }

  async function fetched(path, asked, ending) {
    try {
      say("The picture is being made.");
      const answer = await post(runPath(context.run.key, path), asked);
      save(await answer.blob(), ending, "_");
    } catch (error) {
      context.alert(error);
    }
  }

  function save(blob, ending, joint = ".") {
    const address = URL.createObjectURL(blob);
    const link = h("a", { href: address, download: `${result?.name ?? "image"}${joint}${ending}` });
    slot.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
}

/** A text that can be copied. */
function line(title) {
  const code = h("code"), pre = h("pre", { tabindex: 0, role: "region", "aria-label": title }, code);
  const button = h("button.small", { type: "button", "aria-label": `Copy the lines: ${title}`, onclick: copy }, "Copy");
  const head = h("div.head", {}, h("h3", {}, title), button);
  return { element: h("div.line", {}, head, pre), set: (text) => { code.textContent = text; button.textContent = "Copy"; } };

  async function copy() {
    const range = document.createRange(), selection = getSelection();
    range.selectNodeContents(code);
    selection.removeAllRanges();
    selection.addRange(range);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      if (!document.execCommand("copy")) return say("It is selected: copy it by the keyboard.");
    }
    button.textContent = "Copied";
    return say("Copied");
  }
}
