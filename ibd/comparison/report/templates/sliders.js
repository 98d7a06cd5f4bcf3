// Sliders: what `Prediction.intervene` does with all values that are set, by the numbers of ibd/models/sliders.py.
const answer = (rules, start, told) => {
  const weights = start.weights ?? rules.weights, bias = start.bias ?? rules.bias, slope = start.slope ?? rules.slope;
  const form = (u, line) => ({ positive: Math.max(line, 0), rounded: Number(line > 0.5) })[rules.forms[u]] ?? line;
  const known = new Map(told), reads = [...start.reads], values = [...start.values], followed = new Set();
  for (const group of rules.exclusive) {
    if (!group.some((u) => told.get(u) === 1)) continue;
    group.filter((u) => !told.has(u)).forEach((u) => { known.set(u, 0); followed.add(u); });
  }
  known.forEach((value, u) => {
    values[u] = value;
    reads[u] = form(u, rules.zero[u] + slope[u] * value);
  });
  const moved = (u, line, value) => { reads[u] = form(u, line); values[u] = value; followed.add(u); };
  for (const group of rules.shared) {
    const free = group.filter((u) => !known.has(u));
    if (free.length === group.length) continue;
    const left = Math.max(0, 1 - group.reduce((sum, u) => sum + (known.get(u) ?? 0), 0));
    const top = Math.max(0, ...free.map((u) => start.scores[u]));
    const total = free.reduce((sum, u) => sum + Math.exp(start.scores[u] - top), Math.exp(-top));
    free.forEach((u) => {
      const share = left * Math.exp(start.scores[u] - top) / total;
      moved(u, share, share);
    });
  }
  if (rules.moved && known.size) {
    marginals(start.mean, start.covariance ?? rules.covariance, known).forEach((logit, u) => {
      const probability = sigmoid(logit);
      if (rules.moved === "probability") moved(u, probability, probability);
      else moved(u, logit, (logit - rules.zero[u]) / (slope[u] || 1));
    });
  }
  const logits = bias.map((b, c) => reads.reduce((sum, value, u) => sum + value * weights[u][c], b));
  return { logits, reads, values, followed };
};

const probabilities = (rules, logits) => {
  const top = Math.max(...logits);
  const odds = logits.map((logit) => (rules.squared ? 1 + Math.max(logit, 0) ** 2 : Math.exp(logit - top)));
  const total = odds.reduce((a, b) => a + b, 0);
  return odds.map((odd) => odd / total);
};

// Set a unit; values of an exclusive group that are set add up to 1 at most, so that the others give way.
const settle = (rules, told, unit, value) => {
  told.set(unit, value);
  for (const group of rules.exclusive.filter((members) => members.includes(unit))) {
    const others = group.filter((u) => u !== unit && told.has(u)), sum = others.reduce((s, u) => s + told.get(u), 0);
    if (value === 1) others.forEach((u) => told.delete(u));
    else if (value + sum > 1) others.forEach((u) => told.set(u, Math.floor(1000 * told.get(u) * (1 - value) / sum) / 1000));
  }
};

const written = (value) => minus(Math.abs(Number(value.toFixed(2))) === 0 ? "0.00" : value.toFixed(2));
const rounded = (rules, unit, value) => {
  const step = ["truth", "factor"].includes(rules.asked[unit]) ? 0.01 : (rules.high[unit] - rules.low[unit]) / 1000;
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  return Number(value.toFixed(digits));
};

const drawClasses = (box, rules, start, logits) => {
  const shares = probabilities(rules, logits);
  const order = shares.map((_, c) => c).sort((a, b) => shares[b] - shares[a] || a - b);
  all(":scope > div", box).forEach((line, i) => {
    const share = shares[order[i]];
    line.querySelector("span").textContent = rules.classes[order[i]];
    line.querySelector("meter").value = share;
    line.querySelector(".share").textContent = `${(100 * share).toFixed(1)} %`;
  });
  const bias = start.bias ?? rules.bias;
  box.classList.toggle("abstains", rules.squared && logits.every((logit, c) => logit === bias[c]));
};

const drawUnit = (row, rules, start, now, told) => {
  const unit = Number(row.dataset.unit), weight = (start.weights ?? rules.weights)[unit][start.explained];
  const amount = Number(row.dataset.amount) + weight * (now.reads[unit] - start.reads[unit]);
  const half = 50 * Math.min(1, Math.abs(amount) / start.scale), bar = row.querySelector(".bar i");
  bar.style.left = `${amount < 0 ? 50 - half : 50}%`;
  bar.style.width = `${half}%`;
  bar.classList.toggle("against", amount < 0);
  row.querySelector(".amount").textContent = (Number(amount.toFixed(2)) > 0 ? "+" : "") + written(amount);
  const set = told.has(unit), follows = now.followed.has(unit), value = row.querySelector(".value");
  const times = set && rules.asked[unit] === "factor" ? "× " : ""; // what is set is no similarity
  value.textContent = set || follows ? times + written(now.values[unit]) : value.dataset.before;
  row.classList.toggle("changed", set);
  row.classList.toggle("follows", !set && follows && Math.abs(now.values[unit] - start.values[unit]) >= 0.005);
  const slider = row.querySelector("input");
  if (slider && document.activeElement !== slider) slider.value = now.values[unit];
  slider?.setAttribute("aria-valuetext", `${value.textContent}${set ? ", set" : follows ? ", follows" : ""}`);
};

const asCall = (names, told) => {
  const pairs = [...told].map(([unit, value]) => `${JSON.stringify(names.get(unit))}: ${value}`);
  return pairs.length ? `prediction.intervene({${pairs.join(", ")}})` : "";
};

const live = (panel) => {
  const rules = JSON.parse(document.getElementById(panel.dataset.rules).textContent);
  const start = JSON.parse(panel.querySelector(".start").textContent);
  const told = new Map(), units = all(".unit", panel), reset = panel.querySelector(".reset");
  const names = new Map(units.map((row) => [Number(row.dataset.unit), row.querySelector(".name").textContent]));
  const draw = () => {
    const now = answer(rules, start, told);
    units.forEach((row) => drawUnit(row, rules, start, now, told));
    drawClasses(panel.querySelector(".classes"), rules, start, now.logits);
    panel.querySelector(".call").textContent = asCall(names, told);
    panel.dataset.logits = JSON.stringify(now.logits);
    reset.disabled = told.size === 0;
  };
  // Once a slider is let go of, a screen reader says the class; while it moves that would be too much.
  const say = () => {
    const first = panel.querySelector(".classes > div");
    panel.querySelector("[role=status]").textContent = all("span", first).map((part) => part.textContent).join(" ");
  };
  for (const row of units) {
    const unit = Number(row.dataset.unit), value = row.querySelector(".value");
    value.dataset.before = value.textContent;
    if (!rules.asked[unit]) continue;
    const slider = made("input", { type: "range", min: rules.low[unit], max: rules.high[unit], step: "any",
      "aria-label": names.get(unit) });
    slider.value = start.values[unit];
    slider.addEventListener("input", () => {
      settle(rules, told, unit, rounded(rules, unit, Number(slider.value)));
      draw();
    });
    slider.addEventListener("change", say);
    let before = null, place = 0;
    slider.addEventListener("pointerdown", () => { before = new Map(told); place = slider.value; });
    slider.addEventListener("pointercancel", () => { // a finger that was put here to scroll the page sets nothing
      told.clear();
      before.forEach((set, u) => told.set(u, set));
      slider.value = place;
      draw();
    });
    value.before(slider);
  }
  reset.addEventListener("click", () => {
    told.clear();
    draw();
    say();
  });
  draw();
};

// Panels come to life when they are looked at: a page may have thousands of units.
const sight = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
  sight.unobserve(entry.target);
  live(entry.target);
}), { rootMargin: "800px" });
all(".panel.live").forEach((panel) => sight.observe(panel));

// Search: units whose name, or group, holds the text; groups that are folded open.
for (const field of all(".find input")) {
  field.addEventListener("input", () => {
    const panel = field.closest(".panel"), wanted = field.value.trim().toLowerCase();
    for (const row of all(".unit", panel)) {
      const text = `${row.closest("fieldset")?.querySelector("legend")?.textContent ?? ""} ${row.textContent}`;
      row.hidden = wanted !== "" && !text.toLowerCase().includes(wanted);
    }
    all("fieldset, details", panel).forEach((box) => {
      const found = all(".unit", box).some((row) => !row.hidden);
      if (box.matches("fieldset")) box.hidden = !found;
      else if (wanted) box.open = found;
    });
  });
}
