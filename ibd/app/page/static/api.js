// What is asked of the server. Every failure is an Error whose message is one line for a person.

async function answered(response) {
  const type = response.headers.get("content-type") || "";
  if (response.ok) return type.startsWith("application/json") ? response.json() : response;
  let line = `the page answered ${response.status}`;
  try {
    line = type.startsWith("application/json") ? (await response.json()).error : (await response.text()).trim();
  } catch { /* the status says it */ }
  throw Object.assign(new Error(line), { status: response.status });
}

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("no answer: is `ibd serve` still running?");
  }
  return answered(response);
}

/** The address of a path of a run, such as runPath("birds", "picture", {image: "test:3"}). */
export function runPath(run, path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value != null)).toString();
  return `/api/runs/${encodeURIComponent(run)}${path ? `/${path}` : ""}${query ? `?${query}` : ""}`;
}

export const get = (path, options = {}) => asked(path, options);

export const post = (path, body, options = {}) =>
  asked(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), ...options });

/** Send a file as the raw body of a POST. */
export const send = (path, file) =>
  asked(path, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file });

/**
 * A function that asks again and again, such as for a slider: at most one question is under way, and what was asked
 * meanwhile is asked next in its newest form alone. Answers that came too late are dropped, or with `all` handed on too:
 * who drags a slider sees where it leads before letting go.
 *   ask: argument -> promise;  then: (answer, argument) -> void;  wrong: (Error, argument) -> void
 */
export function latest(ask, then, wrong, { all = false } = {}) {
  let busy = false, next = null;
  async function run(argument) {
    busy = true;
    const [hand, outcome] = await ask(argument).then((answer) => [then, answer], (error) => [wrong, error]);
    const late = next !== null;
    busy = false;
    if (late) {
      const [newest] = next;
      next = null;
      run(newest); // which is under way while this answer is shown
    }
    if (!late || (all && hand === then)) hand(outcome, argument);
  }
  return (argument) => {
    if (busy) next = [argument];
    else run(argument);
  };
}
