// One choice of family for the whole page.
const families = all("section").map((section) => all(".family", section)).filter((blocks) => blocks.length > 1);
const showers = families.map((blocks) => {
  blocks[0].closest("section").classList.add("tabbed");
  return makeTabs("Models", blocks, (i) => chooseFamily(blocks[i].dataset.family));
});
const chooseFamily = (family) => families.forEach((blocks, section) => {
  const place = blocks.findIndex((block) => block.dataset.family === family);
  showers[section](Math.max(place, 0));
});
if (families.length) chooseFamily(families[0][0].dataset.family);

// The questions of a table of scores.
for (const box of all(".questions")) {
  const panels = all(":scope > .question", box);
  if (panels.length < 2) continue;
  box.classList.add("tabbed");
  const show = makeTabs("Questions", panels, (i) => show(i));
  show(0);
}

// Tables: a heading sorts the explainers; reference maps and oracle stay below.
const sortKey = (row, column) => {
  const value = row.cells[column]?.dataset.v;
  return value === undefined || value === "nan" ? NaN : Number(value);
};
for (const table of all("table.scores")) {
  const heads = all(".heads th", table);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending" && column > 0;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.querySelector("tbody.real");
    if (!body) return;
    const sorted = [...body.rows].sort((a, b) => {
      const x = sortKey(a, column), y = sortKey(b, column);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...sorted);
  }));
}
for (const link of all("a.def")) {
  link.addEventListener("click", () => { document.getElementById("definitions").open = true; });
}

// Curves: a name in the legend dims all other lines of its family.
for (const button of all(".key")) {
  button.addEventListener("click", () => {
    const family = button.closest(".family");
    const on = button.getAttribute("aria-pressed") !== "true";
    all(".key", family).forEach((other) => other.setAttribute("aria-pressed", String(on && other === button)));
    all('.chart [class^="ibd-line-"]', family).forEach((line) => {
      line.classList.toggle("dim", on && !line.classList.contains(button.dataset.line));
    });
  });
}

// Contents: where the reader is.
const links = new Map(all(".contents li a").map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link, id) => {
      link.classList.toggle("here", id === entry.target.id);
      link.toggleAttribute("aria-current", id === entry.target.id);
    });
  }
}, { rootMargin: "-15% 0px -80% 0px" });
all("main > section").forEach((section) => watcher.observe(section));
