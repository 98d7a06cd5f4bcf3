"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const minus = (text) => text.replace("-", "\u2212");

  // One choice of family for the whole page; without this script the families stand one below the other.
  const names = new Map(all(".family").map((block) => [block.dataset.family, block.dataset.title]));
  const choose = (family) => {
    for (const section of all("section.tabbed")) {
      const blocks = all(".family", section);
      const there = blocks.some((block) => block.dataset.family === family);
      const shown = there ? family : blocks[0].dataset.family;
      blocks.forEach((block) => block.classList.toggle("off", block.dataset.family !== shown));
      all(".tabs button", section).forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.family === shown)));
    }
  };
  for (const section of all("section")) {
    const blocks = all(".family", section);
    if (blocks.length < 2) continue;
    section.classList.add("tabbed");
    const tabs = document.createElement("div");
    tabs.className = "tabs";
    for (const block of blocks) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.family = block.dataset.family;
      button.textContent = block.dataset.title;
      button.addEventListener("click", () => {
        const before = tabs.getBoundingClientRect().top;
        choose(button.dataset.family);
        window.scrollBy({ top: tabs.getBoundingClientRect().top - before, behavior: "instant" });
      });
      tabs.append(button);
    }
    blocks[0].before(tabs);
  }
  if (names.size) choose(names.keys().next().value);

  // Tables: a heading sorts the explainers; reference maps and oracle stay below.
  const key = (row, column) => {
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
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a, column), y = key(b, column);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      });
      body.append(...rows);
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

  // Sliders: logits are values times weights plus bias.
  const heads = new Map();
  const headOf = (id) => {
    if (!heads.has(id)) heads.set(id, JSON.parse(document.getElementById(id).textContent));
    return heads.get(id);
  };
  const probabilities = (head, values) => {
    const logits = head.bias.map((bias, c) => values.reduce((sum, value, u) => sum + value * head.weights[u][c], bias));
    const top = Math.max(...logits);
    const odds = logits.map((logit) => (head.squared ? 1 + Math.max(logit, 0) ** 2 : Math.exp(logit - top)));
    const total = odds.reduce((a, b) => a + b, 0);
    return odds.map((odd) => odd / total);
  };
  const drawClasses = (box, head, values) => {
    const shares = probabilities(head, values);
    const order = shares.map((_, c) => c).sort((a, b) => shares[b] - shares[a] || a - b);
    all(":scope > div", box).forEach((line, i) => {
      const share = shares[order[i]];
      line.querySelector("span").textContent = head.classes[order[i]];
      line.querySelector("meter").value = share;
      line.querySelector("output").textContent = `${(100 * share).toFixed(1)} %`;
    });
  };
  const drawUnit = (unit, value, start, weight, scale) => {
    const amount = Number(unit.dataset.amount) + weight * (value - start);
    const half = 50 * Math.min(1, Math.abs(amount) / scale);
    const bar = unit.querySelector(".bar i");
    bar.style.left = `${amount < 0 ? 50 - half : 50}%`;
    bar.style.width = `${half}%`;
    bar.classList.toggle("against", amount < 0);
    const text = amount.toFixed(2);
    unit.querySelector(".amount").textContent = (Number(text) > 0 ? "+" : "") + minus(Number(text) === 0 ? "0.00" : text);
    unit.querySelector(".value").textContent = minus(value.toFixed(2));
    unit.classList.toggle("changed", value !== start);
  };
  for (const panel of all(".panel.live")) {
    const head = headOf(panel.dataset.head);
    const start = JSON.parse(panel.querySelector(".start").textContent);
    const values = [...start.values];
    const reset = panel.querySelector(".reset");
    const units = all(".unit[data-place]", panel);
    const draw = (unit) => {
      const place = Number(unit.dataset.place);
      drawUnit(unit, values[place], start.values[place], head.weights[place][start.explained], start.scale);
    };
    const update = () => {
      drawClasses(panel.querySelector(".classes"), head, values);
      reset.disabled = values.every((value, u) => value === start.values[u]);
    };
    for (const unit of units) {
      unit.querySelector("input").addEventListener("input", (event) => {
        values[Number(unit.dataset.place)] = Number(event.target.value);
        draw(unit);
        update();
      });
    }
    reset.addEventListener("click", () => {
      values.splice(0, values.length, ...start.values);
      for (const unit of units) {
        unit.querySelector("input").value = start.values[Number(unit.dataset.place)];
        draw(unit);
      }
      update();
    });
  }

  // Contents: where the reader is.
  const links = new Map(all(".contents li a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link, id) => link.classList.toggle("here", id === entry.target.id));
    }
  }, { rootMargin: "-15% 0px -80% 0px" });
  all("main > section").forEach((section) => watcher.observe(section));
})();
