// What takes long on the server: asked for again and again until it is there, with a bar that says how far it is.

import { h } from "../ui.js";

const PAUSE = 350; // milliseconds

/** A file of rules for how a mode looks, added once. */
export function needsStyle(href) {
  if (!document.querySelector(`link[href="${href}"]`)) document.head.append(h("link", { rel: "stylesheet", href }));
}

/**
 * Ask until there is an answer that is no {work: {title, done, total}}; meanwhile `slot` says how far that is.
 *   ask: () -> promise;  signal: AbortSignal, which ends it with an AbortError
 */
export async function until(ask, slot, signal) {
  const bar = h("progress", { max: 1 });
  const text = h("span");
  const shown = h("p.waiting", { role: "status" }, bar, " ", text);
  try {
    for (;;) {
      const answer = await ask();
      if (signal?.aborted) throw new DOMException("left", "AbortError");
      if (!answer.work || typeof answer.work !== "object") return answer;
      const { title, done, total } = answer.work;
      if (!shown.isConnected) slot.append(shown);
      if (total) bar.value = done / total;
      else bar.removeAttribute("value");
      const said = total ? `${title}: ${done} of ${total}` : `${title} …`;
      if (text.textContent !== said) text.textContent = said;
      await new Promise((go) => setTimeout(go, PAUSE));
      if (signal?.aborted) throw new DOMException("left", "AbortError");
    }
  } finally {
    shown.remove();
  }
}
