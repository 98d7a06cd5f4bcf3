// The accuracy by number of corrections: as a picture, as a table, and as files.

import { get } from "../../api.js";
import { alertOf, h, percent, plain } from "../../ui.js";

const WIDEST = 560, HEIGHT = 260, LEFT = 46, BOTTOM = 38, TOP = 12, RIGHT = 14;
const PAUSE = 700;
const POLICIES = {
  uncertainty: ["the truth of the data, most uncertain group first", "ibd curve --policies uncertainty"],
  random: ["the truth of the data, groups at random, mean of 5 orders", "ibd curve --policies random"],
};

/** The section with the curve of a session: {element, open(), changed(), leave()}. */
export function mountCurve(path, state) {
  const content = h("div");
  const warning = h("p.quiet");
  const element = h("details.curve", { ontoggle: () => { if (element.open) load(); } },
    h("summary", {}, "Accuracy by number of corrections"), warning, content);
  let gone = false, turn = 0;

  async function load() {
    const mine = ++turn;
    const { blind, image } = state();
    warning.textContent = blind && image
      ? "The true class is hidden in this session: who watches the curve after each image learns whether it was right." : "";
    try {
      const found = await get(path("/curve"));
      if (gone || mine !== turn) return;
      draw(found);
      if (!found.oracle.ended) setTimeout(() => { if (!gone && mine === turn && element.open) load(); }, PAUSE);
    } catch (error) {
      if (!gone) alertOf(error);
    }
  }

  function draw({ points, oracle, agrees, known, groups }) {
    const finished = points[0]?.images ?? 0;
    content.replaceChildren(
      finished ? chart(points) : h("p", {}, "No image is finished yet."),
      finished ? table(points) : "",
      h("p.quiet", {}, `Of ${groups} groups. At each number stand all ${finished} finished images: one that was left after fewer `
        + "answers counts as it was left. Intervals of 95 % over images (Wilson). Skipped images are left out."),
      h("p.quiet", {}, oracle.error ? `No comparison with the truth: ${oracle.error}.`
        : oracle.ended ? compared(POLICIES[oracle.policy])
          : `Computing the comparison with the truth: ${oracle.done} of ${oracle.total || "?"} …`),
      known ? h("p.quiet", {}, `${agrees} of ${known} units that you set are as the data has them (${percent(agrees / known)}).`) : "",
      h("p.tools", {}, download("curve.csv", "Curve (CSV)"), download("record.csv", "Every step (CSV)"), download("session.json", "All (JSON)")));
  }

  const compared = ([words, command]) => ["Compared with ", words, " (as ", h("code", {}, command),
    " does), on the same images and with as many groups as you answered."];
  const download = (name, text) => h("a.button", { href: path(`/${name}`), download: "" }, text);

  return {
    element,
    open() { element.open = true; load(); },
    changed() { if (element.open) load(); },
    leave() { gone = true; },
  };
}

function table(points) {
  const some = points.some(({ oracle }) => oracle != null);
  const heads = ["Groups answered, at most", "Images with so many", "Right", "Accuracy", "95 % interval", some && "With the truth", "Mean seconds of that answer"];
  return h("div.scroll", {}, h("table.points", {},
    h("caption.hidden", {}, "Accuracy by number of corrections"),
    h("thead", {}, h("tr", {}, heads.filter(Boolean).map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, points.map((point) => h("tr", {},
      h("th.number", { scope: "row" }, String(point.groups)),
      h("td.number", {}, String(point.answered)),
      h("td.number", {}, `${point.right} of ${point.images}`),
      h("td.number", {}, percent(point.accuracy)),
      h("td.number", {}, `${percent(point.low)} to ${percent(point.high)}`),
      some && h("td.number", {}, percent(point.oracle)),
      h("td.number", {}, plain(point.seconds, 1)))))));
}

function chart(points) {
  const WIDTH = Math.max(280, Math.min(WIDEST, document.documentElement.clientWidth - 32));
  const most = Math.max(1, points.at(-1).groups);
  const x = (groups) => LEFT + ((WIDTH - LEFT - RIGHT) * groups) / most;
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const line = (key) => points.filter((point) => point[key] != null).map((point) => `${x(point.groups)},${y(point[key])}`).join(" ");
  const band = [...points.map((point) => `${x(point.groups)},${y(point.high)}`),
    ...[...points].reverse().map((point) => `${x(point.groups)},${y(point.low)}`)].join(" ");
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const whole = points.filter(({ groups }) => most <= 12 || groups % Math.ceil(most / 12) === 0);
  const last = points.at(-1);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart",
    "aria-label": `Accuracy rises from ${percent(points[0].accuracy)} without corrections to ${percent(last.accuracy)} with at most ${last.groups}; the table below has all numbers` },
    ...ticks.map((share) => svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share), class: "grid" })),
    ...ticks.map((share) => svg("text", { x: LEFT - 6, y: y(share) + 4, class: "tick end" }, `${100 * share} %`)),
    ...whole.map(({ groups }) => svg("text", { x: x(groups), y: HEIGHT - BOTTOM + 17, class: "tick middle" }, String(groups))),
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 5, class: "tick middle" }, "groups answered, at most"),
    svg("polygon", { points: band, class: "band" }),
    svg("polyline", { points: line("oracle"), class: "oracle" }),
    svg("polyline", { points: line("accuracy"), class: "person" }),
    ...points.map((point) => svg("circle", { cx: x(point.groups), cy: y(point.accuracy), r: 4, class: "person" },
      svg("title", {}, `${point.groups} groups: ${percent(point.accuracy)} of ${point.images} images`))),
    svg("text", { x: LEFT + 8, y: HEIGHT - BOTTOM - 26, class: "key" }, "● ── you"),
    svg("text", { x: LEFT + 8, y: HEIGHT - BOTTOM - 10, class: "key" }, "- - - the truth of the data"));
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
