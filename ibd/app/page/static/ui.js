// What all modes share: elements, numbers, bars, errors. Texts are set as text alone, never as HTML.

/**
 * An element: h("button.small", {onclick: f, "aria-label": "x"}, "text", child, [more]).
 * Properties whose value is null or false are left out; `style` is an object (the page's rules allow no style texts).
 */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(element.style, value);
    else if (key === "class") element.classList.add(...value.split(" ").filter(Boolean));
    else if (key in element && key !== "list" && !key.includes("-") && key !== "form") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child != null && child !== false));
  return element;
}

/** What a person calls the splits of the data. */
export const SPLITS = { test: "test", val: "validation", train: "training" };

/** Number formats, as the command line writes them. */
export const percent = (share) => (share == null ? "unknown" : `${(100 * share).toFixed(1)}\u00a0%`);
export const signed = (value, digits = 2) => {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? `+${(0).toFixed(digits)}` : value > 0 ? `+${text}` : text.replace("-", "−");
};
export const plain = (value, digits = 2) => (value == null ? "–" : value.toFixed(digits).replace("-", "−"));

/** A quantity in its unit, to a hundredth of its deviation. */
export function quantity(value, control) {
  const digits = Math.min(12, Math.max(0, 2 - Math.floor(Math.log10(control.deviation))));
  return `${plain(value, digits)}${control.unit ? ` ${control.unit}` : ""}`;
}

/** A bar from 0 to 1 of its width. */
export function bar(share, kind = "") {
  const width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h(`span.bar${kind ? `.${kind}` : ""}`, { "aria-hidden": "true" }, h("span", { style: { width } }));
}

/** Show an error in the alert of the page; without one, take the last away. */
export function alertOf(error) {
  const place = document.getElementById("alerts");
  if (!error) return place.replaceChildren();
  if (error.name === "AbortError") return undefined;
  const close = h("button.small", { type: "button", onclick: () => place.replaceChildren() }, "Dismiss");
  return place.replaceChildren(h("p", {}, error.message || String(error), " ", close));
}

/** Say something to who listens to a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A table cell; numbers are aligned to the right. */
export const cell = (value, properties = {}) =>
  h(typeof value === "number" ? "td.number" : "td", properties, typeof value === "number" ? String(value) : value);
