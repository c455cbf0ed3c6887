// The list of images, and the one that is shown.

import { fill, pairs, restart, thresholds } from "./classes.js";
import { byId, make, number, short, show, showProblem, showStatus, state } from "./common.js";
import { editor } from "./correction.js";
import { draw, drawMap, drawPicture, viewer } from "./display.js";
import { measureOf } from "./image/exports.js";
import { Items } from "./items.js";

export const items = new Items({ query: { key: () => JSON.stringify(thresholds()), pairs, check, map: () => state.settings.map }, updated, added: list });

export function take(files) {
  if (!state.model || !files.length) return;
  showProblem();
  const [added, left] = items.add(files);
  showStatus(left ? `${number.format(left)} other ${left === 1 ? "file was" : "files were"} skipped: not an image by name.` : "");
  if (added.length) open(added[0]);
}

export function list() {
  byId("queue").hidden = !items.all.length;
  byId("number").textContent = items.all.length > 1 ? items.all.length : "";
  byId("items").replaceChildren(...ordered().map((item) => (item.element ??= makeEntry(item))));
  items.all.forEach(write);
  placed();
}

export function ordered() {
  if (byId("order").value === "added") return items.all;
  const doubt = (item) => item.answer?.uncertainty ?? -1;
  return [...items.all].sort((a, b) => doubt(b) - doubt(a));
}

export function makeEntry(item) {
  item.title = make("span", { className: "title" });
  item.note = make("span", { className: "soft" });
  const button = make("button", {}, item.thumb, make("span", {}, item.title, item.note));
  button.addEventListener("click", () => open(item));
  return make("li", {}, button);
}

export function write(item) {
  if (!item.element) return;
  const { answer } = item;
  const found = answer?.classes.filter((one) => one.area).map((one) => one.name);
  const marks = [item.saved && !item.unsaved && "saved", item.edited && (item.unsaved ? "corrected" : !item.saved && "downloaded")];
  item.title.textContent = item.file.paged ? `${item.path}, page ${item.page}` : item.path;
  item.note.textContent = {
    waiting: "waiting",
    running: "predicting",
    failed: reason(item),
    done: [...marks.filter(Boolean), item.edited ? "" : found?.join(", ") || "nothing found"].filter(Boolean).join(" · "),
  }[item.state];
  item.element.className = [item.state, item.edited && "edited", answer?.look_at_this && "doubtful"].filter(Boolean).join(" ");
  item.element.firstChild.setAttribute("aria-current", item === state.current);
}

export function updated(item) {
  if (item.removed) return;
  write(item);
  if (item.answer?.uncertainty >= 0) byId("order-field").hidden = false;
  if (byId("order").value !== "added") list();
}

export function placed() {
  const place = ordered().indexOf(state.current);
  byId("place").textContent = `${place + 1} / ${items.all.length}`;
  byId("previous").disabled = place < 1;
  byId("next").disabled = place + 1 >= items.all.length;
}

export function step(by) {
  const next = ordered()[ordered().indexOf(state.current) + by];
  if (next) open(next);
}

export function remove() {
  const place = ordered().indexOf(state.current);
  if (state.current.unsaved && !confirm("Its corrections have not been saved. Remove it anyway?")) return;
  items.remove(state.current);
  state.current = null;
  const next = ordered()[place] ?? ordered().at(-1);
  if (next) {
    open(next);
    return;
  }
  show("drop");
  showStatus("");
  byId("table").classList.add("idle");
}

export async function open(item) {
  restart();
  if (state.current) state.current.open = false;
  const before = state.current;
  state.current = item;
  item.open = true;
  for (const one of [before, item]) if (one) write(one);
  item.element.scrollIntoView({ block: "nearest" });
  placed();
  showProblem();
  if (!item.view) {
    if (!before?.view) show("busy");
    byId("busy").lastElementChild.textContent = item.path;
  }
  try {
    await items.load(item);
  } catch {
    if (item === state.current) refuse(item);
    return;
  }
  if (item === state.current) display(item);
}

export function check({ file }) { // before the upload
  if (file.size <= state.model.limits.max_bytes) return;
  throw new Error(`it has ${number.format(file.size)} bytes; this server accepts at most ${number.format(state.model.limits.max_bytes)}`);
}

export function display(item) {
  const { answer, view } = item;
  const { height, width, bits, channels, format, spacing } = answer.image;
  view.used = performance.now();
  show("view");
  for (const canvas of byId("sheet").querySelectorAll("canvas")) Object.assign(canvas, { width, height });
  byId("pad").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const facts = [`${width} × ${height}`, `${bits} bits ${channels === 1 ? "grey" : "colour"}`, format];
  if (spacing) facts.push(`${short.format(spacing[1])} × ${short.format(spacing[0])} mm`);
  byId("name").replaceChildren(item.title.textContent, make("span", { className: "soft" }, facts.join(", ")));
  byId("table").classList.remove("idle");
  byId("table").classList.toggle("spaced", Boolean(spacing));
  viewer.open(width, height);
  editor.open(item);
  drawPicture();
  drawMap();
  refresh();
  const found = answer.classes.filter((one) => one.area).map((one) => one.name);
  const doubt = answer.uncertainty >= 0 ? ` Uncertainty ${answer.uncertainty.toFixed(2)}.` : "";
  showStatus(`Network: ${short.format(answer.network_ms)} ms, ${item.seconds.toFixed(1)} s in total. Found: ${found.join(", ") || "none of the classes"}.${doubt}`);
}

/** Draw the masks of the shown image and write their numbers. */
export function refresh() {
  draw();
  describe();
}

export function describe() {
  state.rows.forEach((row, index) => {
    const one = state.current.answer.classes[index];
    const { edited, layers, view } = state.current;
    const counted = edited || layers.objects; // small regions are no objects
    fill(row, counted ? measureOf(state.current, index, edited ? null : view?.maps[index]) : one);
    if (row.slider) row.slider.disabled = state.current.edited;
  });
  for (const [id, stack] of [["undo", state.current.undo], ["redo", state.current.redo]]) byId(id).disabled = !stack.length;
  byId("revert").disabled = !state.current.edited;
  byId("save").disabled = false;
  byId("reset").hidden = state.current.edited || state.rows.every((row) => row.threshold === row.usual);
}

export function reason({ file, problem }) {
  const words = problem?.startsWith(`${file.name}: `) ? problem.slice(file.name.length + 2) : problem ?? "";
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}

export function refuse(item) {
  showStatus("");
  show("drop");
  byId("table").classList.add("idle");
  byId("reset").hidden = true;
  showProblem(`${item.path} was rejected`, reason(item));
}
