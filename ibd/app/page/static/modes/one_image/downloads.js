// Taking the result along: pictures, JSON, CSV, and the lines of a shell or of Python that do the same.

import { post, runPath } from "../../api.js";
import { h, say } from "../../ui.js";

const REST = 400; // milliseconds after the last change

export function mount(slot, store, context) {
  let timer = null, asked = null; // the promise of the result as it is now, once it is asked for
  const shell = line("In a shell", result, context), python = line("In Python", result, context), note = h("p.quiet");
  const mapButton = h("button", { type: "button", onclick: saveMap }, "The shown map (PNG)");
  const own = h("a.button", { download: "" }, "The image (PNG)");
  slot.append(h("h2", {}, "Take it along"),
    h("div.controls", {},
      mapButton,
      h("button", { type: "button", onclick: saveSummary }, "Before and after (PNG)"),
      h("button", { type: "button", onclick: () => saveText(({ record }) => JSON.stringify(record, null, 1), "application/json", "json") }, "JSON"),
      h("button", { type: "button", onclick: () => saveText(({ csv }) => csv, "text/csv", "csv") }, "CSV"),
      own),
    h("p", {}, "The lines that do the same:"), shell.element, python.element, note);
  slot.hidden = true;

  const ends = [
    store.on(["before", "edits"], ({ before, image }) => {
      slot.hidden = !before;
      clearTimeout(timer);
      asked = null;
      if (!before) return;
      own.href = runPath(context.run.key, "file", { image });
      for (const each of [shell, python]) each.stale();
      timer = setTimeout(() => result().catch((error) => {
        if (error.status !== 400) context.alert(error); // a value that is refused is said where it was set
      }), REST);
    }),
    store.on(["layer"], ({ layer }) => { mapButton.disabled = !layer; }),
  ];
  mapButton.disabled = true;
  return () => { clearTimeout(timer); ends.forEach((end) => end()); };

  /** The result as it is now, and never that of before a change or of another image. */
  function result() {
    clearTimeout(timer);
    return (asked ??= ask());
  }

  async function ask() {
    const { image, edits } = store.get();
    const current = () => image === store.get().image && edits === store.get().edits;
    try {
      const answer = await post(runPath(context.run.key, "result"), { image, edits });
      if (current()) {
        shell.set(answer.shell);
        python.set(answer.python);
        note.textContent = answer.note;
      }
      return answer;
    } catch (error) {
      if (current()) asked = null; // to be asked for again
      throw error;
    }
  }

  async function saveText(textOf, type, ending) {
    try {
      const answer = await result();
      save(new Blob([textOf(answer)], { type }), `${answer.name}.${ending}`);
    } catch (error) {
      context.alert(error);
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

  async function fetched(path, wanted, ending) {
    try {
      say("The picture is being made.");
      const [{ name }, answer] = await Promise.all([result(), post(runPath(context.run.key, path), wanted)]);
      save(await answer.blob(), `${name}_${ending}`);
    } catch (error) {
      context.alert(error);
    }
  }

  function save(blob, name) {
    const address = URL.createObjectURL(blob);
    const link = h("a", { href: address, download: name });
    slot.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
}

/** A text that can be copied, once `ready` says that it is of what is shown. */
function line(title, ready, context) {
  const code = h("code"), pre = h("pre", { tabindex: 0, role: "region", "aria-label": title }, code);
  const button = h("button.small", { type: "button", "aria-label": `Copy the lines: ${title}`, onclick: copy }, "Copy");
  const head = h("div.head", {}, h("h3", {}, title), button);
  return {
    element: h("div.line", {}, head, pre),
    stale() { pre.setAttribute("aria-busy", "true"); button.textContent = "Copy"; },
    set(text) { code.textContent = text; pre.removeAttribute("aria-busy"); },
  };

  async function copy() {
    try {
      await ready();
    } catch (error) {
      return context.alert(error);
    }
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
