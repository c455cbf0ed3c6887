// How the shown image looks: masks, opacity, window and level, comparison. The settings go into the address.

import { at, make, number, short, state } from "./common.js";
import { layerOf, paint, paintMap } from "./image/masks.js";
import { follow, Viewer } from "./image/viewer.js";
import { writeSettings } from "./link.js";

export const viewer = new Viewer(at("scroller"), at("sheet"), (zoom) => {
  at("zoom").textContent = `${Math.round(100 * zoom)}%`;
});

export function draw(box) {
  if (state.current?.layers) paint(at("fill"), at("line"), state.hidden ? [] : shownClasses(state.current, state.chosen), box);
}

/** The map of the uncertainty, or of the spread of the folds, between the image and its masks. */
export function drawMap() {
  paintMap(at("map"), state.current?.view?.doubts[state.settings.map]);
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
  Object.assign(at("level"), { min: start, max: end, value: (low + high) / 2 });
  Object.assign(at("width"), { min: 1, max: Math.max(1, end - start), value: high - low });
  const unit = range ? (range[1] - range[0]) / 65535 : 1;
  const text = (value) => (unit < 0.1 ? short.format(value) : number.format(Math.round(value)));
  at("level-text").textContent = text((range?.[0] ?? 0) + (unit * (low + high)) / 2);
  at("width-text").textContent = text(unit * (high - low));
  at("auto").disabled = !state.settings.window;
  levels.draw(at("picture"), [low, high]);
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
  follow(at("scroller"), event, (to) => setWindow((low + high) / 2 + (event.clientY - to.clientY) * per, high - low + (to.clientX - event.clientX) * per));
}

export function setOpacity() {
  state.settings.opacity = Number(at("opacity").value);
  at("fill").style.opacity = state.settings.opacity / 100;
  at("opacity-text").textContent = `${state.settings.opacity} %`;
}

/** Masks right of `share` percent of the image only; null: everywhere. */
export function compare(share) {
  state.settings.compare = share === null ? null : Math.max(0, Math.min(100, share));
  const on = state.settings.compare !== null;
  at("divider").hidden = !on;
  at("divider").style.left = `${state.settings.compare}%`;
  at("divider").setAttribute("aria-valuenow", Math.round(state.settings.compare));
  at("compare").setAttribute("aria-pressed", on);
  for (const id of ["fill", "line"]) at(id).style.clipPath = on ? `inset(0 0 0 ${state.settings.compare}%)` : "";
  remember();
}

export function remember() {
  if (!state.rows.length) return;
  state.settings.hidden = state.rows.filter((row) => !row.box.checked).map((row) => row.name);
  state.settings.thresholds = Object.fromEntries(state.rows.filter((row) => row.threshold !== row.usual).map((row) => [row.name, row.threshold]));
  state.settings.form = at("form").selectedIndex > 0 ? at("form").value : null;
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
