// A table whose columns are sorted by a click on their titles, in the browser: for some hundreds of rows.

import { h, plain } from "../../ui.js";

/**
 * A table of figures.
 *   caption: what it is;  rows: objects;
 *   columns: {title, key: row -> number or text to sort by, shown: row -> what the cell holds, number, first: "down"}
 * The first column names the row. What has no value comes last, whichever way.
 */
export function sheet(caption, columns, rows, sorted = null) {
  const head = h("tr"), body = h("tbody");
  let by = sorted?.by ?? null, down = sorted?.down ?? false;

  function fill() {
    const order = [...rows];
    if (by !== null) {
      const key = columns[by].key;
      order.sort((one, other) => {
        const a = key(one), b = key(other);
        if (a == null || b == null) return (a == null) - (b == null);
        return (typeof a === "string" ? a.localeCompare(b) : a - b) * (down ? -1 : 1);
      });
    }
    body.replaceChildren(...order.map((row) => h("tr", {}, columns.map((column, place) =>
      h(place ? (column.number ? "td.number" : "td") : "th", place ? {} : { scope: "row" }, column.shown(row))))));
    columns.forEach((column, place) => {
      const cell = head.children[place];
      if (by === place) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.querySelector("span").textContent = by === place ? (down ? " ▾" : " ▴") : "";
    });
  }

  head.append(...columns.map((column, place) => h(column.number ? "th.number" : "th", { scope: "col" },
    h("button.sort", {
      type: "button",
      onclick: () => {
        down = by === place ? !down : column.first === "down";
        by = place;
        fill();
      },
    }, column.title, h("span", { "aria-hidden": "true" })))));
  fill();
  return h("div.scroll", { tabIndex: 0, role: "region", "aria-label": caption },
    h("table.sheet", {}, h("caption.hidden", {}, caption), h("thead", {}, head), body));
}

/** A share with its interval of 95 %, as `ibd test` writes it. */
export const interval = ([mean, low, high]) => (mean == null ? "–" : `${plain(mean, 3)} [${plain(low, 3)}, ${plain(high, 3)}]`);
