// What the page's scripts share: elements by selector, elements made, and rows of tabs.
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  element.append(...children);
  return element;
};
const minus = (text) => text.replace("-", "\u2212");

// A row of tabs above its panels: arrow keys, Home and End go from one to the next. Without this script all panels
// stand one below the other, and on paper, too.
let rows = 0;
const makeTabs = (label, panels, chosen) => {
  const row = rows++;
  const list = made("div", { class: "tabs", role: "tablist", "aria-label": label });
  const tabs = panels.map((panel, i) => {
    panel.id = panel.id || `panel-${row}-${i}`;
    const tab = made("button", { type: "button", role: "tab", id: `tab-${row}-${i}`, "aria-controls": panel.id });
    tab.textContent = panel.dataset.title;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", () => {
      const before = list.getBoundingClientRect().top;
      chosen(i);
      window.scrollBy({ top: list.getBoundingClientRect().top - before, behavior: "instant" });
    });
    return tab;
  });
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    tabs[next].focus({ preventScroll: true });
    tabs[next].click();
  });
  list.append(...tabs);
  panels[0].before(list);
  return (place) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === place));
      tab.tabIndex = i === place ? 0 : -1;
    });
    panels.forEach((panel, i) => panel.classList.toggle("off", i !== place));
  };
};
