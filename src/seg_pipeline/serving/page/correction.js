// Correct the shown image; save and download the result.

import { save } from "./api.js";
import { byId, make, showStatus, state } from "./common.js";
import { compare, draw, overlay, remember, viewer } from "./display.js";
import { Editor } from "./image/editor.js";
import { makeDownload, runsByClass } from "./image/exports.js";
import { describe, items, refresh, step, write } from "./queue.js";

export const editor = new Editor({ viewer, cursor: byId("cursor"), draft: byId("draft"), redraw: draw, changed, chosen, seen: (index) => state.rows[index].box.checked });
const HINTS = {
  move: "Drag to move the image.",
  brush: "Draw to add to the class.",
  eraser: "Draw to clear the class; other classes stay.",
  polygon: "Click the corners; Enter, a double click or the first corner closes it. Shift erases.",
  fill: "Click a hole or an outlined area to fill it. Shift and click an object to erase it.",
  pick: "Click an object: the tools then change it. Click elsewhere, or press N, for a new one.",
};
const OBJECT_HINTS = {
  brush: "Draw to add to the object that is outlined in white, or to a new one. N starts the next.",
  eraser: "Draw to clear the chosen object; without one, any object of the class.",
  fill: "Click a hole to fill it, another object to join it to the chosen one. Shift and click an object to erase it.",
};

export function setCorrect(on) {
  editor.active = on;
  byId("palette").hidden = byId("hint").hidden = !on;
  byId("correct").setAttribute("aria-pressed", on);
  if (on) compare(null);
  if (on) chooseClass(editor.index);
  setTool(on && editor.tool === "move" ? "brush" : editor.tool);
}

export function setTool(tool) {
  editor.use(tool);
  for (const button of byId("kinds").children) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  byId("size-field").hidden = !["brush", "eraser"].includes(tool);
  byId("scroller").classList.toggle("drawing", editor.drawing);
  byId("hint").textContent = (state.model?.objects && OBJECT_HINTS[tool]) || HINTS[tool];
}

export function setSize(size) {
  editor.resize(size);
  byId("size").value = editor.size;
  byId("size-text").textContent = `${editor.size} px`;
}

export function chooseClass(index) {
  editor.choose(index, index === editor.index ? editor.object : 0);
  if (state.rows[index].box.checked || !editor.active) return;
  state.rows[index].box.checked = true; // show the class that is painted
  draw();
  remember();
}

/** The tools change another class or object. */
function chosen() {
  const { index, object } = editor;
  state.chosen = [index, object];
  byId("class").value = index;
  byId("patch").style.background = state.rows[index].colour;
  byId("object").textContent = object || "new";
  if (state.model.objects) draw();
}

/** A tool has changed the masks. */
export function changed() {
  Object.assign(state.current, { changes: (state.current.changes ?? 0) + 1, edited: state.current.undo.length > 0 || state.current.saved, unsaved: true });
  if (!state.current.edited) state.current.unsaved = false;
  write(state.current);
  describe(); // the tool has drawn what it changed
}

export async function revert() {
  const item = state.current;
  await items.revert(item);
  editor.open(item);
  refresh();
}

export async function saveCurrent() {
  const item = state.current;
  if (!state.model.saves) {
    await download();
    return;
  }
  byId("save").disabled = true;
  const { changes } = item;
  try {
    const { files } = await save(item.file, item.page, runsByClass(item, state.model.classes));
    Object.assign(item, { saved: true, unsaved: item.changes !== changes }); // it may have been edited meanwhile
    showStatus(`Saved ${files.join(", ")}.`);
  } catch (error) {
    showStatus(`Not saved: ${error.message}`);
  }
  byId("save").disabled = false;
  write(item);
}

export async function saveAndNext() {
  const item = state.current;
  await saveCurrent();
  if (!item.unsaved && item === state.current) step(1);
}

export async function download() {
  const chosen = { one: [state.current], all: items.all.filter(({ state }) => state !== "failed"), edited: items.all.filter(({ edited }) => edited) }[byId("scope").value];
  if (!chosen.length) {
    showStatus("No image has been corrected yet.");
    return;
  }
  byId("download").disabled = true;
  try {
    for (const item of chosen) await items.load(item, { shown: byId("form").value === "overlay" });
    const ready = chosen.map((item) => ({ ...item, layers: item.layers, overlay: () => overlay(item) }));
    const [name, content] = await makeDownload(byId("form").value, ready, state.model);
    keep(new Blob([content]), name);
    if (!["overlay", "areas"].includes(byId("form").value)) for (const item of chosen) Object.assign(item, { unsaved: false });
    chosen.forEach(write);
  } catch (error) {
    showStatus(`Nothing was downloaded: ${error.message}`);
  }
  byId("download").disabled = false;
}

export function keep(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
