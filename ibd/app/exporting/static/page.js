// The page: an image in, the prediction and its units out, and what changes when units are set by hand.
"use strict";

(() => {
  const names = ibdEngine.names, by = (id) => document.getElementById(id), MOST = 40;
  const MOST_PIXELS = 1e8; // of an image: more than a tab has memory for
  const state = { read: null, before: null, after: null, set: new Map(), past: [], held: null, fitted: null, file: "", all: false };
  const rows = new Map();
  let busy = false, again = false, shown = null, onUnit = null, taken = 0;

  const signed = (number) => `${number < -0.005 ? "" : "+"}${Math.abs(number) < 0.005 ? "0.00" : number.toFixed(2)}`;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`; // for a shell
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const editable = ibdEngine.can("edit") && names.edits;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function value(unit, number) {
    const measure = names.quantities[names.unit_names[unit]];
    return measure === undefined ? number.toFixed(2) : `${Number(number.toPrecision(4))} ${measure}`.trim();
  }

  function say(text, wrong = false) {
    by("said").textContent = text;
    by("said").classList.toggle("wrong", wrong);
  }

  // ---- an image comes in

  async function take(file) {
    const turn = ++taken; // of two at once, the later one stays
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "default" });
    } catch {
      by("classes").hidden = false;
      return say(`${file.name || "This"} is no image that this browser can read.`, true);
    }
    if (turn !== taken) return;
    if (bitmap.width * bitmap.height > MOST_PIXELS) {
      by("classes").hidden = false;
      return say(`${file.name} has ${bitmap.width} x ${bitmap.height} pixels, and this page reads up to 100 million: make it smaller.`, true);
    }
    const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff"; // transparent images are laid on white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const fitted = ibdResize.fit(ibdResize.planesOf(data, canvas.width, canvas.height), names.image_size, names.resize);
    const began = performance.now(), read = await ibdEngine.encode(ibdResize.numbers(fitted)), before = await judge(read);
    if (turn !== taken) return;
    Object.assign(state, { fitted, read, before, file: file.name || "image.png", set: new Map(), past: [], held: null, all: false });
    by("caption").textContent =
      `${state.file}, ${bitmap.width} x ${bitmap.height} pixels, brought to ${names.image_size[1]} x ${names.image_size[0]}` +
      ` (${names.resize}); read in ${Math.round(performance.now() - began)} ms`;
    for (const id of ["figure", "map-options", "classes", "units"]) by(id).hidden = false;
    ibdDraw.image(by("image"), state.fitted);
    fillMaps();
    await update();
    list();
  }

  async function judge(units) {
    const made = await ibdEngine.decode(units), probabilities = [...made.probabilities.data], logits = made.logits.data;
    // A calibration of each class (vector) ranks otherwise than the logits do; these part what is equal.
    const order = probabilities.map((_, index) => index)
      .sort((a, b) => probabilities[b] - probabilities[a] || logits[b] - logits[a]);
    const best = order[0];
    const account = await ibdEngine.explain(units, best);
    return {
      units, probabilities, order, best, logits: [...logits], silent: Boolean(made.abstains && made.abstains.data[0]),
      adds: account.contributions && [...account.contributions.data], map: account.class_map && account.class_map.data,
    };
  }

  // ---- units are set by hand

  async function update() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      const began = performance.now();
      const units = state.set.size ? await ibdEngine.edit(state.read, state.set) : state.read;
      state.after = await judge(units);
      state.milliseconds = performance.now() - began;
      show();
    } while (again);
    busy = false;
    document.body.dataset.answers = String(Number(document.body.dataset.answers || 0) + 1);
  }

  // All that one slider is dragged over (`held`: its unit) is one step of Undo.
  function change(edits, held = null) {
    if (held === null || held !== state.held) state.past.push(new Map(state.set));
    state.held = held;
    for (const [unit, number] of edits) {
      if (number === null) state.set.delete(unit);
      else state.set.set(unit, number);
    }
    update();
  }

  // Values of an exclusive group add up to 1 at most: what was set before gives way.
  function set(unit, number, held = null) {
    const edits = new Map([[unit, number]]);
    for (const group of names.exclusive_groups.filter((group) => group.includes(unit))) {
      let sum = number;
      for (const other of group) {
        if (other === unit || !state.set.has(other)) continue;
        sum += state.set.get(other);
        if (sum > 1 || number === 1) edits.set(other, null);
      }
    }
    change(edits, held);
  }

  // ---- what is shown

  function show() {
    const { before, after, set } = state, name = names.class_names, edited = set.size > 0;
    by("undo").disabled = !state.past.length;
    by("reset").disabled = !edited;
    if (after.logits.some(Number.isNaN)) return say("These values cannot be: they exclude each other, or one is too large. Undo the last one.", true);
    const top = (from) => (from.silent ? "no answer" : `${name[from.best]}, ${percent(from.probabilities[from.best])}`);
    say(edited ? `As read: ${top(before)}. With your values: ${top(after)}.` : `${top(before)}.`);
    const classes = [...new Set([...after.order.slice(0, 5), ...before.order.slice(0, 3)])];
    by("ranking").replaceChildren(...classes.map((index) => row(index, edited)));
    by("after-head").hidden = !edited;
    by("command-line").hidden = !edited;
    const edits = [...set].map(([unit, number]) => quoted(`${names.unit_names[unit]}=${number}`));
    by("command").textContent = ["ibd intervene RUN", quoted(state.file), ...edits].join(" ");
    by("account").hidden = !after.adds;
    by("account").textContent = `The last number of a line is what it adds to the logit of ${name[after.best]}` +
      (names.additive ? "." : ": what that logit loses without it alone; these do not add up.");
    for (const [unit, refresh] of rows) refresh(unit);
    paint();
  }

  function row(index, edited) {
    const cell = (from, kind) => {
      const share = make("td", {}, make("div", { className: `share ${kind}`, textContent: percent(from.probabilities[index]) }));
      share.firstChild.style.setProperty("--width", `${100 * from.probabilities[index]}%`);
      share.title = `logit ${from.logits[index].toFixed(3)}`;
      return share;
    };
    const line = make("tr", {}, make("td", { textContent: names.class_names[index] }), cell(state.before, "before"));
    if (edited) line.append(cell(state.after, "after"));
    return line;
  }

  function paint() {
    const chosen = by("map").value, unit = onUnit ?? (chosen.startsWith("unit") ? Number(chosen.slice(5)) : null);
    let map = null;
    if (unit !== null) {
      const [, , height, width] = state.read.maps.dims, size = height * width;
      map = ibdDraw.placed(state.read.maps.data.subarray(unit * size, (unit + 1) * size), [height, width]);
    } else if (chosen === "class") map = state.after.map;
    ibdDraw.heat(by("heat"), map, Number(by("opacity").value));
    shown = map;
    by("heat").dataset.of = unit !== null ? names.unit_names[unit] : chosen;
  }

  function fillMaps() {
    const options = [make("option", { value: "none", textContent: "no map" })];
    if (state.before.map) options.unshift(make("option", { value: "class", textContent: "what speaks for the class" }));
    names.unit_names.forEach((name, unit) => options.push(make("option", { value: `unit ${unit}`, textContent: name })));
    by("map").replaceChildren(...options);
  }

  // ---- the list of units

  function order() {
    const sizes = state.before.adds || [...state.read.values.data];
    const wanted = by("search").value.trim().toLowerCase();
    const units = names.unit_names.map((_, unit) => unit).filter((unit) => names.unit_names[unit].toLowerCase().includes(wanted));
    if (units.length <= MOST) return units;
    return units.sort((a, b) => Math.abs(sizes[b]) - Math.abs(sizes[a]));
  }

  function list() {
    const units = order(), few = state.all ? units : units.slice(0, MOST), groups = new Map();
    const groupOf = (unit) => Object.keys(names.unit_groups).find((name) => names.unit_groups[name].includes(unit)) ?? "";
    const grouped = units.length <= MOST || state.all;
    for (const unit of few) {
      const name = grouped ? groupOf(unit) : "";
      groups.set(name, [...(groups.get(name) ?? []), unit]);
    }
    rows.clear();
    const labels = [names.unit_kind, "as read", "set to", "", "", state.before.adds ? "adds to logit" : ""];
    const head = make("div", { className: "unit head" }, ...labels.map((text) => make("span", { textContent: text })));
    head.setAttribute("aria-hidden", "true");
    by("list").replaceChildren(head);
    for (const [name, members] of groups) {
      if (name && members.length > 1) by("list").append(make("h3", { textContent: name }));
      const whole = names.unit_groups[name];
      if (editable && whole && isExclusive(whole) && whole.length > 1) by("list").append(choice(name, whole));
      by("list").append(...members.map((unit) => line(unit, grouped ? "" : groupOf(unit))));
    }
    by("more").hidden = units.length <= few.length;
    by("more").textContent = `Show all ${units.length}`;
    show();
  }

  const isExclusive = (members) => names.exclusive_groups.some((group) => String(group) === String(members));

  // A choice among the units of an exclusive group.
  function choice(name, members) {
    const select = make("select", {}, make("option", { value: "read", textContent: "as read" }),
      make("option", { value: "none", textContent: "none of them" }),
      ...members.map((unit) => make("option", { value: unit, textContent: names.unit_names[unit].replace(`${name}::`, "") })));
    select.addEventListener("change", () => {
      const edits = new Map(members.map((unit) => [unit, select.value === "none" ? 0 : null]));
      if (!["read", "none"].includes(select.value)) edits.set(Number(select.value), 1);
      change(edits);
    });
    rows.set(`group ${name}`, () => {
      const one = members.find((unit) => state.set.get(unit) === 1);
      const none = members.every((unit) => state.set.get(unit) === 0);
      select.value = one !== undefined ? one : none ? "none" : "read";
    });
    return make("div", { className: "options" }, make("label", {}, `Which ${name}? `, select));
  }

  function line(unit, group) {
    const kind = editable ? names.edits[unit] : "none", name = names.unit_names[unit], parts = controls(unit, kind, name);
    const read = make("span", { className: "read" }), adds = make("span", { className: "adds" });
    const title = make("span", { className: "name", textContent: name });
    if (group && !name.includes(group)) title.append(make("small", { textContent: ` ${group}` }));
    const element = make("div", { className: "unit" }, title, read, ...parts.elements, adds);
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", name);
    for (const [event, target] of [["mouseenter", unit], ["focusin", unit], ["mouseleave", null], ["focusout", null]]) {
      element.addEventListener(event, () => { onUnit = target; paint(); });
    }
    rows.set(unit, () => {
      const now = state.after.units.values.data[unit], was = state.read.values.data[unit], isSet = state.set.has(unit);
      element.classList.toggle("set", isSet);
      element.dataset.value = now;
      read.textContent = Math.abs(now - was) < 0.005 && !isSet ? value(unit, was) : `${value(unit, was)} → ${value(unit, now)}`;
      if (state.after.adds) adds.textContent = signed(state.after.adds[unit]);
      parts.refresh(isSet ? state.set.get(unit) : kind === "factor" ? 1 : stands(unit, now), isSet);
    });
    return element;
  }

  // What a unit is set to for nothing to change: a truth value may lie between two scores, and be no probability.
  function stands(unit, number) {
    const [low, high] = names.ends?.[unit] ?? [];
    if (low === undefined) return number;
    return Math.min(1, Math.max(0, (state.after.units.scores.data[unit] - low) / (high - low || 1)));
  }

  function controls(unit, kind, name) {
    if (kind === "none") return { elements: [make("span"), make("span"), make("span")], refresh: () => {} };
    const was = state.read.values.data[unit], reach = 2 * Math.max(Math.abs(was), 0.5);
    let [low, high] = names.ranges[unit] ?? [Math.min(0, ...state.read.values.data), reach];
    if (kind === "value" || kind === "quantity") [low, high] = [Math.min(low, was), Math.max(high, was)];
    const step = kind === "truth" ? 0.01 : (high - low) / 200;
    const slider = make("input", { type: "range", min: low, max: high, step: "any" });
    const number = make("input", { type: "number", step: kind === "truth" ? 0.01 : "any" });
    slider.step = kind === "truth" ? step : "any";
    if (kind === "truth") Object.assign(number, { min: 0, max: 1 });
    const what = kind === "factor" ? `${name}, times` : name;
    slider.setAttribute("aria-label", what);
    number.setAttribute("aria-label", `${what}, as a number`);
    slider.addEventListener("input", () => set(unit, Number(slider.value), unit));
    let place = 0;
    slider.addEventListener("pointerdown", () => { state.held = null; place = slider.value; });
    slider.addEventListener("pointercancel", () => { // a finger that was put here to scroll the page sets nothing
      slider.value = place;
      if (state.held !== unit) return;
      Object.assign(state, { set: state.past.pop(), held: null });
      update();
    });
    slider.addEventListener("keydown", (event) => { if (!event.repeat) state.held = null; });
    number.addEventListener("change", () => {
      const wanted = Number(number.value);
      if (number.value === "" || !Number.isFinite(wanted)) return change(new Map([[unit, null]]));
      set(unit, kind === "truth" ? Math.min(1, Math.max(0, wanted)) : wanted);
    });
    const ends = kind === "truth" ? [["no", 0], ["yes", 1]] : kind === "factor" ? [["off", 0]] : [];
    const buttons = ends.map(([text, end]) => {
      const button = make("button", { type: "button", textContent: text });
      button.setAttribute("aria-label", `${name}: ${text}`);
      button.addEventListener("click", () => (state.set.get(unit) === end ? change(new Map([[unit, null]])) : set(unit, end)));
      return button;
    });
    const refresh = (now, isSet) => {
      if (document.activeElement !== slider || !isSet) slider.value = now;
      if (document.activeElement !== number) number.value = isSet ? now : "";
      number.placeholder = now.toFixed(2);
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(isSet && now === ends[place][1])));
    };
    return { elements: [slider, number, make("span", { className: "set-to" }, ...buttons)], refresh };
  }

  // ---- what a person takes along

  function save() {
    const { before, after, set } = state, unit = (from) => Object.fromEntries(names.unit_names.map((name, k) => [name, from.units.values.data[k]]));
    const told = (from) => ({
      class: from.silent ? null : names.class_names[from.best],
      probabilities: Object.fromEntries(names.class_names.map((name, k) => [name, from.probabilities[k]])),
      logits: from.logits, values: unit(from),
    });
    const content = {
      image: state.file, model: names.model, set: Object.fromEntries([...set].map(([k, number]) => [names.unit_names[k], number])),
      as_read: told(before), with_your_values: told(after),
    };
    const link = make("a", { download: `${state.file}.json`, href: URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function listen() {
    const drop = by("drop"), first = (files) => [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
    by("file").addEventListener("change", (event) => event.target.files.length && take(first(event.target.files)));
    document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    document.addEventListener("dragleave", () => drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files.length) take(first(event.dataTransfer.files));
    });
    document.addEventListener("paste", (event) => event.clipboardData.files.length && take(first(event.clipboardData.files)));
    by("undo").addEventListener("click", () => { Object.assign(state, { set: state.past.pop(), held: null }); update(); });
    by("reset").addEventListener("click", () => change(new Map([...state.set.keys()].map((unit) => [unit, null]))));
    by("search").addEventListener("input", list);
    by("more").addEventListener("click", () => { state.all = true; list(); });
    by("map").addEventListener("change", paint);
    by("opacity").addEventListener("input", paint);
    by("save").addEventListener("click", save);
  }

  async function begin() {
    const plural = names.unit_kind === "axis" ? "axes" : `${names.unit_kind}s`;
    try {
      await ibdEngine.start();
    } catch (error) {
      by("title").textContent = "This browser cannot run the model.";
      by("about").textContent = String(error.message ?? error);
      return;
    }
    by("title").textContent = `${names.class_names.length} classes by ${names.unit_names.length} ${plural}`;
    document.title = by("title").textContent;
    by("units-title").textContent = plural[0].toUpperCase() + plural.slice(1);
    by("note").textContent = IBD_MODEL.note;
    by("made").textContent = `${names.model} of ibd ${names.ibd}; ${IBD_RUNTIME.name} ${IBD_RUNTIME.version}, opset ${names.opset}.`;
    by("main").hidden = false;
    listen();
    document.body.dataset.ready = "yes";
  }

  // For whoever writes a test, or a page of their own.
  window.ibdPage = { state, take, shown: () => shown };
  begin();
})();
