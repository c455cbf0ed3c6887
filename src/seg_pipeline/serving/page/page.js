// Loads the model and connects the page's elements to their actions.

import { readExample, readModel, rememberToken } from "./api.js";
import { makeRow, reset } from "./classes.js";
import { byId, make, number, show, showProblem, showStatus, state } from "./common.js";
import { chooseClass, download, editor, revert, saveAndNext, saveCurrent, setCorrect, setSize, setTool } from "./correction.js";
import { compare, draw, drawMap, dragWindow, drawPicture, remember, setOpacity, setWindow, viewer } from "./display.js";
import { formatsOf } from "./image/exports.js";
import { follow } from "./image/viewer.js";
import { droppedFiles } from "./items.js";
import { items, list, ordered, remove, step, take } from "./queue.js";

async function start() {
  try {
    state.model = await readModel();
  } catch (error) {
    byId("token").hidden = error.status !== 401;
    byId("drop").hidden = error.status === 401;
    if (error.status !== 401 || sessionStorage.length) showProblem("The model could not be loaded", error.message);
    return;
  }
  showProblem();
  byId("token").hidden = true;
  show("drop");
  const { classes, limits, task, provenance, examples, saves } = state.model;
  byId("about").textContent = `${classes.length} ${classes.length === 1 ? "class" : "classes"}, ${
    task === "multilabel" ? "which may overlap" : "one per pixel"
  }`;
  byId("limits").textContent = `${limits.formats.join(", ")}; up to ${number.format(limits.max_bytes / 1e6)} MB and ${number.format(
    Math.round(limits.max_pixels / 1e5) / 10,
  )} million pixels. Grey or colour, 8 or 16 bits; files of several pages too.`;
  byId("model").textContent = describe(provenance, state.model.input);
  byId("kept").textContent = saves
    ? "Images are processed in memory; this server stores those that you save, with their masks."
    : "Images are processed in memory on this server and are not stored.";
  byId("examples").hidden = !examples.length;
  byId("examples").textContent = `Try ${examples.length === 1 ? "an example" : `${examples.length} examples`}`;
  byId("save").hidden = byId("save-next").hidden = !saves;
  byId("object-field").hidden = byId("pick").hidden = !state.model.objects;
  byId("of-folds").hidden = state.model.networks < 2;
  if (state.model.networks < 2 && state.settings.map === "spread") state.settings.map = null;
  byId("map-of").value = state.settings.map ?? "";
  state.rows = classes.map(makeRow);
  byId("classes").replaceChildren(...state.rows.flatMap((row) => row.elements));
  byId("class").replaceChildren(...classes.map(({ name }, index) => make("option", { value: index }, name)));
  byId("form").replaceChildren(...formatsOf(state.model).map(([name, title]) => make("option", { value: name }, title)));
  if (formatsOf(state.model).some(([name]) => name === state.settings.form)) byId("form").value = state.settings.form;
  chooseClass(0);
}

function describe(provenance, input) {
  const [first] = provenance.models ?? []; // of an ensemble
  const parts = [`input ${input.size[1]} × ${input.size[0]}`];
  if (first?.best?.val_dice) parts.push(`validation Dice ${first.best.val_dice.toFixed(3)}`);
  if (first?.weights_sha256) parts.push(`weights ${first.weights_sha256.slice(0, 12)}`);
  if (Array.isArray(input.channels)) parts.push("made for image series; a single image lacks its neighbours");
  return `Model: ${parts.join("; ")}.`;
}


// ---- events

const KEYS = {
  ",": () => step(-1), ".": () => step(1), "+": () => viewer.by(1.25), "=": () => viewer.by(1.25), "-": () => viewer.by(0.8), 0: () => viewer.fit(),
  m: () => { state.hidden = !state.hidden; draw(); },
  c: () => setCorrect(!editor.active),
  "?": () => byId("help").showModal(),
};
const TOOLS = { v: "move", b: "brush", e: "eraser", p: "polygon", f: "fill", o: "pick" };

document.addEventListener("keydown", (event) => {
  if (byId("help").open || !state.current || event.altKey || event.target.matches("select, input:not([type=range], [type=checkbox])")) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let done = true;
  if (byId("view").hidden) { // a rejected image
    if (!",.?".includes(name) || event.ctrlKey) return;
    KEYS[name]();
  } else if (event.ctrlKey || event.metaKey) {
    if (name === "s") saveAndNext();
    else if (editor.active && (name === "y" || (name === "z" && event.shiftKey))) editor.redo();
    else if (editor.active && name === "z") editor.undo();
    else done = false;
  } else if (editor.key(event)) done = true;
  else if (editor.active && name in TOOLS && (name !== "o" || state.model.objects)) setTool(TOOLS[name]);
  else if (editor.active && name === "n" && state.model.objects) editor.choose(editor.index, 0);
  else if (editor.active && (name === "[" || name === "]")) setSize(editor.size + (name === "[" ? -1 : 1));
  else if (/^[1-9]$/.test(name) && state.rows[name - 1]) {
    if (editor.active) chooseClass(name - 1);
    else state.rows[name - 1].box.click();
  } else if (name in KEYS) KEYS[name]();
  else done = false;
  if (done) event.preventDefault();
});
for (const id of ["file", "folder"]) {
  byId(id).addEventListener("change", () => {
    const files = [...byId(id).files].map((file) => [file, file.webkitRelativePath.split("/").slice(1).join("/") || file.name]);
    if (id === "folder") files.sort(([, a], [, b]) => a.localeCompare(b, undefined, { numeric: true }));
    take(files);
    byId(id).value = ""; // allows choosing the same file again
  });
}
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(await droppedFiles(event.dataTransfer));
});
document.addEventListener("paste", (event) => take([...event.clipboardData.files].map((file) => [file, file.name])));
byId("examples").addEventListener("click", async () => {
  try {
    take(await Promise.all(state.model.examples.map(async (name, index) => [await readExample(index, name), name])));
  } catch (error) {
    showProblem("The examples could not be loaded", error.message);
  }
});
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberToken(byId("token-text").value);
  start();
});
const clicks = {
  larger: () => viewer.by(1.25), smaller: () => viewer.by(0.8), fit: () => viewer.fit(), previous: () => step(-1), next: () => step(1),
  compare: () => compare(state.settings.compare === null ? 50 : null), correct: () => setCorrect(!editor.active),
  undo: () => editor.undo(), redo: () => editor.redo(), download, save: saveCurrent, "save-next": saveAndNext, keys: () => byId("help").showModal(),
  auto: () => { state.settings.window = null; drawPicture(); remember(); },
  revert, remove, reset, "new-object": () => editor.choose(editor.index, 0),
  link: async () => {
    remember();
    await navigator.clipboard.writeText(location.href).then(() => showStatus("The link is in the clipboard."), () => showStatus(`The link: ${location.href}`));
  },
};
for (const [id, action] of Object.entries(clicks)) byId(id).addEventListener("click", action);
for (const button of byId("kinds").children) button.addEventListener("click", () => setTool(button.dataset.tool));
byId("opacity").addEventListener("input", () => { setOpacity(); remember(); });
for (const id of ["level", "width"]) byId(id).addEventListener("input", () => setWindow(Number(byId("level").value), Number(byId("width").value)));
byId("size").addEventListener("input", () => setSize(Number(byId("size").value)));
byId("class").addEventListener("change", () => chooseClass(Number(byId("class").value)));
byId("form").addEventListener("change", remember);
byId("order").addEventListener("change", list);
byId("map-of").addEventListener("change", async () => {
  state.settings.map = byId("map-of").value || null;
  remember();
  const item = state.current;
  await items.load(item).catch(({ message }) => showStatus(`The map could not be loaded: ${message}`));
  if (item === state.current) drawMap();
});
byId("scroller").addEventListener("contextmenu", (event) => event.preventDefault());
byId("scroller").addEventListener("pointerdown", dragWindow);
byId("divider").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  byId("divider").focus();
  follow(byId("divider"), event, (to) => compare((100 * viewer.point(to)[0]) / viewer.width));
});
byId("divider").addEventListener("keydown", (event) => {
  const to = { ArrowLeft: state.settings.compare - 2, ArrowRight: state.settings.compare + 2, Home: 0, End: 100 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  compare(to);
});
window.addEventListener("beforeunload", (event) => {
  if (items.all.some(({ unsaved }) => unsaved)) event.preventDefault();
});
byId("opacity").value = state.settings.opacity;
setOpacity();
setSize(8);
compare(state.settings.compare);
start();
