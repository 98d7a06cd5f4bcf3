// Curves as SVG: how often what is stated comes true, and what a threshold comes to.

import { h, plain } from "../../ui.js";

const NS = "http://www.w3.org/2000/svg";
const LEFT = 40, TOP = 8, SIDE = 260;

function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const x = (share) => LEFT + share * SIDE;
const y = (share, height = SIDE) => TOP + (1 - share) * height;

function frame(label, below, beside, height, extra = 0) {
  const svg = s("svg", { viewBox: `0 0 ${LEFT + SIDE + 12} ${TOP + height + extra + 36}`, role: "img", "aria-label": label });
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      s("line", { class: "grid", x1: x(0), x2: x(1), y1: y(tick, height), y2: y(tick, height) }),
      s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: y(0, height), y2: y(1, height) }),
      s("text", { x: x(0) - 5, y: y(tick, height) + 4, "text-anchor": "end" }, String(tick)),
      s("text", { x: x(tick), y: TOP + height + extra + 14, "text-anchor": "middle" }, String(tick)),
    );
  }
  svg.append(
    s("rect", { class: "axis", x: x(0), y: y(1, height), width: SIDE, height }),
    s("text", { x: x(0.5), y: TOP + height + extra + 31, "text-anchor": "middle" }, below),
    s("text", { transform: `translate(10 ${TOP + height / 2}) rotate(-90)`, "text-anchor": "middle" }, beside),
  );
  return svg;
}

/** A reliability diagram: the share that is true by the probability stated, with intervals, and how many below. */
export function reliability(title, found) {
  const height = 220, extra = 46;
  const svg = frame(`${title}: calibration error ${plain(found.error, 4)}; the numbers are in the table below`, "stated probability", "share that is true", height, extra);
  svg.append(s("line", { class: "stated", x1: x(0), y1: y(0, height), x2: x(1), y2: y(1, height) }));
  const most = Math.max(...found.bins.map((bin) => bin[2]), 1);
  const points = [];
  for (const [low, high, count, stated, share, least, above] of found.bins) {
    const tall = Math.max(1, 40 * (count / most));
    svg.append(
      s("rect", { class: "count", x: x(low) + 1, width: x(high) - x(low) - 2, y: TOP + height + extra - tall, height: tall }),
      s("line", { class: "whisker", x1: x(stated), x2: x(stated), y1: y(least, height), y2: y(above, height) }),
    );
    points.push(`${x(stated)},${y(share, height)}`);
  }
  svg.append(s("polyline", { class: "first", points: points.join(" ") }));
  for (const [, , , stated, share] of found.bins) svg.append(s("circle", { cx: x(stated), cy: y(share, height), r: 3.5 }));
  const rows = found.bins.map(([low, high, count, stated, share, least, above]) => h("tr", {},
    h("th", { scope: "row" }, `${plain(low)} to ${plain(high)}`), h("td.number", {}, String(count)), h("td.number", {}, plain(stated, 3)),
    h("td.number", {}, `${plain(share, 3)} [${plain(least, 3)}, ${plain(above, 3)}]`)));
  return h("figure", {},
    h("figcaption", {}, `${title}: calibration error ${plain(found.error, 4)} over ${found.count}; bars below say how many`),
    svg,
    h("details", {}, h("summary", {}, "The numbers"), h("div.scroll", { tabIndex: 0, role: "region", "aria-label": title }, h("table", {},
      h("thead", {}, h("tr", {}, ["stated", "count", "mean", "true"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)))));
}

/** Precision and recall by threshold, with a line at a place that can be moved. */
export function precisionRecall(title, places) {
  const svg = frame(title, "threshold", "share", 200);
  const line = (kind, key) => {
    const points = places.filter((place) => place[key][0] != null).map((place) => `${x(place.value)},${y(place[key][0], 200)}`);
    svg.append(s("polyline", { class: kind, points: points.join(" ") }));
  };
  line("first", "precision");
  line("second", "recall");
  const mark = s("line", { class: "place", y1: y(0, 200), y2: y(1, 200) });
  svg.append(mark);
  const move = (value) => { mark.setAttribute("x1", x(value)); mark.setAttribute("x2", x(value)); };
  return { svg, move };
}
