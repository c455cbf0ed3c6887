// The table of classes: visibility, numbers and thresholds.

import { predict } from "./api.js";
import { byId, make, number, percent, showStatus, state } from "./common.js";
import { draw, remember } from "./display.js";
import { measureOf } from "./image/exports.js";
import { above, rgb } from "./image/masks.js";
import { items, refresh } from "./queue.js";

const SETTLED = 350; // milliseconds from the last threshold change to the request
let request = new AbortController();
let settling;

export function makeRow({ name, colour, threshold }, index) {
  const box = make("input", { type: "checkbox", checked: !state.settings.hidden.includes(name) });
  const patch = make("i");
  patch.style.background = colour;
  const cells = ["Pixels", "mm²", "Share", "Confidence"].map((title) => {
    const cell = make("td", { className: title === "mm²" ? "mm2" : "" }, "–");
    cell.dataset.name = title; // label beside the number on narrow screens
    return cell;
  });
  const label = make("label", { className: "choice" }, box, patch, name);
  const head = make("tr", { className: "class none" }, make("th", { scope: "row" }, label), ...cells);
  const row = { name, box, cells, head, colour, rgb: rgb(colour), usual: threshold, elements: [head] };
  row.threshold = threshold === null ? null : state.settings.thresholds[name] ?? threshold;
  box.addEventListener("change", () => {
    draw();
    remember();
  });
  if (threshold !== null) row.elements.push(makeLevel(row, index));
  return row;
}

export function makeLevel(row, index) {
  const id = `threshold-${index}`;
  const value = make("output", { htmlFor: id });
  row.slider = make("input", { id, type: "range", min: 0.01, max: 0.99, step: 0.01 });
  row.slider.setAttribute("aria-label", `Threshold of ${row.name}`);
  row.write = () => {
    row.slider.value = row.threshold;
    value.textContent = row.threshold.toFixed(2);
  };
  row.slider.addEventListener("input", () => {
    row.threshold = Number(row.slider.value);
    value.textContent = row.threshold.toFixed(2);
    requestAnimationFrame(() => preview(row));
    settle();
  });
  row.write();
  return make("tr", { className: "level" }, make("td", { colSpan: 5 }, make("label", { className: "slider", htmlFor: id }, "Threshold", value), row.slider));
}

export function fill({ cells, head }, { area, area_mm2: mm2, share, confidence }) {
  const texts = [number.format(area), mm2 === null || mm2 === undefined ? "–" : number.format(Math.round(10 * mm2) / 10), percent(share),
    confidence === null ? "–" : confidence.toFixed(2)];
  cells.forEach((cell, index) => (cell.textContent = texts[index]));
  head.classList.toggle("none", !area);
}

export function thresholds() {
  const given = state.rows.filter((row) => row.threshold !== null);
  return given.some((row) => row.threshold !== row.usual) ? given.map((row) => ["threshold", row.threshold]) : [];
}

export function pairs(withMaps) {
  return [...(withMaps && state.model.task === "multilabel" ? [["include", "probabilities"]] : []), ...thresholds()];
}

/** Cancel the requests for the previous thresholds. */
export function restart() {
  request.abort();
  request = new AbortController();
  clearTimeout(settling);
}

/** Show a class at its new threshold immediately, without the server. */
export function preview(row) {
  if (!state.current?.view || state.current.edited) return;
  const index = state.rows.indexOf(row);
  state.current.layers[index] = above(state.current.view.maps[index], row.threshold);
  fill(row, measureOf(state.current, index, state.current.view.maps[index]));
  draw();
}

/** Once the thresholds stop changing, request the masks with the server's postprocessing. */
export function settle() {
  restart();
  remember();
  byId("reset").hidden = state.rows.every((row) => row.threshold === row.usual);
  const item = state.current;
  if (!item?.answer || item.edited) return;
  settling = setTimeout(async () => {
    const key = JSON.stringify(thresholds());
    try {
      items.adopt(item, await predict(item.file, [["page", item.page], ...pairs(false)], request.signal), key);
      if (item === state.current) refresh();
    } catch (error) {
      if (error.name !== "AbortError") showStatus(`Preview only: ${error.message}`);
    }
  }, SETTLED);
}

export function reset() {
  for (const row of state.rows) {
    row.threshold = row.usual;
    row.write?.();
    if (row.slider) preview(row);
  }
  settle();
}
