// Teaching: a person corrects the concepts of many images, one after the other; all of it is written down.
//
//   #/RUN/teach                    a new session, or one to go on with
//   #/RUN/teach?session=TIME       the session itself: where it stands is kept by the server, and a reload goes on there

import { get, runPath } from "../api.js";
import { h } from "../ui.js";
import { mountBegin } from "./teaching/begin.js";
import { mountSession } from "./teaching/session.js";
import { needsStyle } from "./until.js";

export async function mount(root, context) {
  needsStyle("/static/modes/teaching/teaching.css");
  const { session } = context.parameters;
  if (session) return mountSession(root, context, session);
  const about = await get(runPath(context.run.key, "teaching"));
  root.append(h("h1", {}, "Teaching"));
  if (about.why_not) {
    root.append(h("p.notice", {}, `This model cannot be taught here: ${about.why_not}.`));
    return undefined;
  }
  return mountBegin(root, context, about);
}
