// How the shown image looks: masks, opacity, window and level, comparison. The settings go into the address.

import { byId, make, number, short, state } from "./common.js";
import { layerOf, paint, paintMap } from "./image/masks.js";
import { follow, Viewer } from "./image/viewer.js";
import { writeSettings } from "./link.js";

export const viewer = new Viewer(byId("scroller"), byId("sheet"), (zoom) => {
  byId("zoom").textContent = `${Math.round(100 * zoom)}%`;
});

export function draw(box) {
  if (state.current?.layers) paint(byId("fill"), byId("line"), state.hidden ? [] : shownClasses(state.current, state.chosen), box);
}

/** The map of the uncertainty, or of the spread of the folds, between the image and its masks. */
export function drawMap() {
  paintMap(byId("map"), state.current?.view?.doubts[state.settings.map]);
}

/** The classes to paint of an item. */
export function shownClasses({ layers }, [ofClass, object] = []) {
  return state.rows.flatMap((row, index) => {
    const [layer, value] = layerOf(layers, index);
    const numbers = layers.objects?.[index];
    return row.box.checked ? [{ layer, value, colour: row.rgb, numbers, chosen: index === ofClass ? object : 0 }] : [];
  });
}

export function windowOf({ levels }) {
  return state.settings.window ?? levels.auto;
}

export function drawPicture() {
  const { levels } = state.current.view;
  const [low, high] = windowOf(state.current.view);
  const { value_range: range } = state.current.answer.image;
  const [start, end] = levels.whole;
  Object.assign(byId("level"), { min: start, max: end, value: (low + high) / 2 });
  Object.assign(byId("width"), { min: 1, max: Math.max(1, end - start), value: high - low });
  const unit = range ? (range[1] - range[0]) / 65535 : 1;
  const text = (value) => (unit < 0.1 ? short.format(value) : number.format(Math.round(value)));
  byId("level-text").textContent = text((range?.[0] ?? 0) + (unit * (low + high)) / 2);
  byId("width-text").textContent = text(unit * (high - low));
  byId("auto").disabled = !state.settings.window;
  levels.draw(byId("picture"), [low, high]);
}

export function setWindow(level, width) {
  const wide = Math.max(1, width);
  state.settings.window = [level - wide / 2, level + wide / 2];
  requestAnimationFrame(drawPicture);
  remember();
}

export function dragWindow(event) {
  if (event.button !== 2 || !state.current?.view) return;
  event.preventDefault();
  const [low, high] = windowOf(state.current.view);
  const [start, end] = state.current.view.levels.whole;
  const per = (end - start || 1) / 500;
  follow(byId("scroller"), event, (to) => setWindow((low + high) / 2 + (event.clientY - to.clientY) * per, high - low + (to.clientX - event.clientX) * per));
}

export function setOpacity() {
  state.settings.opacity = Number(byId("opacity").value);
  byId("fill").style.opacity = state.settings.opacity / 100;
  byId("opacity-text").textContent = `${state.settings.opacity} %`;
}

/** Masks right of `share` percent of the image only; null: everywhere. */
export function compare(share) {
  state.settings.compare = share === null ? null : Math.max(0, Math.min(100, share));
  const on = state.settings.compare !== null;
  byId("divider").hidden = !on;
  byId("divider").style.left = `${state.settings.compare}%`;
  byId("divider").setAttribute("aria-valuenow", Math.round(state.settings.compare));
  byId("compare").setAttribute("aria-pressed", on);
  for (const id of ["fill", "line"]) byId(id).style.clipPath = on ? `inset(0 0 0 ${state.settings.compare}%)` : "";
  remember();
}

export function remember() {
  if (!state.rows.length) return;
  state.settings.hidden = state.rows.filter((row) => !row.box.checked).map((row) => row.name);
  state.settings.thresholds = Object.fromEntries(state.rows.filter((row) => row.threshold !== row.usual).map((row) => [row.name, row.threshold]));
  state.settings.form = byId("form").selectedIndex > 0 ? byId("form").value : null;
  writeSettings(state.settings);
}

export async function overlay(item) {
  const { width, height, levels } = item.view;
  const [whole, fillings, lines] = Array.from({ length: 3 }, () => make("canvas", { width, height }));
  levels.draw(whole, windowOf(item.view));
  paint(fillings, lines, shownClasses(item));
  const context = whole.getContext("2d");
  context.globalAlpha = state.settings.opacity / 100;
  context.drawImage(fillings, 0, 0);
  context.globalAlpha = 1;
  context.drawImage(lines, 0, 0);
  const blob = await new Promise((done) => whole.toBlob(done));
  return new Uint8Array(await blob.arrayBuffer());
}
