// What a closer look shares: waiting for what takes long on the server, named controls, frames.

import { h } from "../../ui.js";

const EVERY = 250;

/** What tells the tabs of a browser apart: what one waits for, another does not end. */
export const tab = Math.random().toString(36).slice(2);

/**
 * Ask until the answer is ready, and return it; null where the signal has ended that.
 *   ask: () -> promise of {ready, work};  tell: (work) -> void;  signal: an AbortSignal
 */
export async function until(ask, tell, signal) {
  while (!signal.aborted) {
    const answer = await ask();
    if (signal.aborted) return null;
    if (answer.ready !== false) return answer;
    tell(answer.work);
    await new Promise((done) => { setTimeout(done, EVERY); });
  }
  return null;
}

/** How far a work is: a bar where that is known, and words. */
export function progress(work, unit = "") {
  const known = work.total > 0;
  const words = known ? `${work.title}: ${work.done} of ${work.total}` : `${work.title}${work.done ? `: ${work.done}${unit}` : ""}`;
  return h("p.working", {}, h("progress", known ? { max: work.total, value: work.done, "aria-label": work.title } : { "aria-label": work.title }),
    " ", h("span", {}, words));
}

/** A control with its name before it. */
export const named = (text, control) => h("span", {}, h("label", { for: control.id }, `${text} `), control);

/** A frame around a part of a picture, told in shares of it; null for none. */
export function frame(box) {
  if (!box) return null;
  const [top, left, bottom, right] = box.map((share) => 100 * share);
  return h("span.frame", { "aria-hidden": "true", style: { top: `${top}%`, left: `${left}%`, height: `${bottom - top}%`, width: `${right - left}%` } });
}
