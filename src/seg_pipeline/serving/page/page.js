import { predict, readExample, readModel, rememberToken, save } from "./api.js";
import { Editor } from "./editor.js";
import { formsOf, makeDownload, measureOf, runsByClass } from "./exports.js";
import { droppedFiles, Items } from "./items.js";
import { readSettings, writeSettings } from "./link.js";
import { above, layerOf, paint, rgb } from "./masks.js";
import { follow, Viewer } from "./viewer.js";

const SETTLED = 350; // milliseconds from the last threshold change to the request

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const percent = (share) => `${(100 * share).toFixed(share && share < 0.0995 ? 2 : 1)} %`;
const settings = readSettings();
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

let model;
let rows = []; // one per class: elements, colour, threshold
let current = null; // the shown item
let hidden = false; // all masks
let request = new AbortController();
let settling;

const viewer = new Viewer(at("scroller"), at("sheet"), (zoom) => {
  at("zoom").textContent = `${Math.round(100 * zoom)}%`;
});
const editor = new Editor({ viewer, cursor: at("cursor"), draft: at("draft"), redraw: draw, changed });
const items = new Items({ query: { key: () => JSON.stringify(thresholds()), pairs }, updated, added: list });

// ---- the model

async function start() {
  try {
    model = await readModel();
  } catch (error) {
    at("token").hidden = error.status !== 401;
    at("drop").hidden = error.status === 401;
    if (error.status !== 401 || sessionStorage.length) tell("The model could not be loaded", error.message);
    return;
  }
  tell();
  at("token").hidden = true;
  show("drop");
  const { classes, limits, task, provenance, examples, saves } = model;
  at("about").textContent = `${classes.length} ${classes.length === 1 ? "class" : "classes"}, ${
    task === "multilabel" ? "which may overlap" : "one per pixel"
  }`;
  at("limits").textContent = `${limits.formats.join(", ")}; up to ${number.format(limits.max_bytes / 1e6)} MB and ${number.format(
    Math.round(limits.max_pixels / 1e5) / 10,
  )} million pixels. Grey or colour, 8 or 16 bits; files of several pages too.`;
  at("model").textContent = describe(provenance, model.input);
  at("kept").textContent = saves
    ? "Images are processed in memory; this server stores those that you save, with their masks."
    : "Images are processed in memory on this server and are not stored.";
  at("examples").hidden = !examples.length;
  at("examples").textContent = `Try ${examples.length === 1 ? "an example" : `${examples.length} examples`}`;
  at("save").hidden = !saves;
  rows = classes.map(makeRow);
  at("classes").replaceChildren(...rows.flatMap((row) => row.elements));
  at("class").replaceChildren(...classes.map(({ name }, index) => make("option", { value: index }, name)));
  at("form").replaceChildren(...formsOf(model).map(([name, title]) => make("option", { value: name }, title)));
  if (formsOf(model).some(([name]) => name === settings.form)) at("form").value = settings.form;
  chooseClass(0);
}

function describe(provenance, input) {
  const [first] = provenance.models ?? []; // of an ensemble
  const parts = [`input ${input.size[1]} × ${input.size[0]}`];
  if (first?.best?.val_dice) parts.push(`validation Dice ${first.best.val_dice.toFixed(3)}`);
  if (first?.weights_sha256) parts.push(`weights ${first.weights_sha256.slice(0, 12)}`);
  if (Array.isArray(input.channels)) parts.push("made for series: a single image stands in for its neighbours");
  return `Model: ${parts.join("; ")}.`;
}

function makeRow({ name, colour, threshold }, index) {
  const box = make("input", { type: "checkbox", checked: !settings.hidden.includes(name) });
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
  row.threshold = threshold === null ? null : settings.thresholds[name] ?? threshold;
  box.addEventListener("change", () => {
    draw();
    remember();
  });
  if (threshold !== null) row.elements.push(makeLevel(row, index));
  return row;
}

function makeLevel(row, index) {
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

// ---- the list of images

function take(files) {
  if (!model || !files.length) return;
  tell();
  const [added, left] = items.add(files);
  say(left ? `${number.format(left)} other ${left === 1 ? "file is no image" : "files are no images"} by name.` : "");
  if (added.length) open(added[0]);
}

function list() {
  at("queue").hidden = !items.all.length;
  at("number").textContent = items.all.length > 1 ? items.all.length : "";
  at("items").replaceChildren(...ordered().map((item) => (item.element ??= makeEntry(item))));
  items.all.forEach(write);
  placed();
}

function ordered() {
  if (at("order").value === "added") return items.all;
  const doubt = (item) => item.answer?.uncertainty ?? -1;
  return [...items.all].sort((a, b) => doubt(b) - doubt(a));
}

function makeEntry(item) {
  item.title = make("span", { className: "title" });
  item.note = make("span", { className: "soft" });
  const button = make("button", {}, item.thumb, make("span", {}, item.title, item.note));
  button.addEventListener("click", () => open(item));
  return make("li", {}, button);
}

function write(item) {
  if (!item.element) return;
  const { answer, state } = item;
  const found = answer?.classes.filter((one) => one.area).map((one) => one.name);
  const marks = [item.saved && !item.unsaved && "saved", item.edited && (item.unsaved ? "corrected" : !item.saved && "downloaded"), answer?.look_at_this && "look at this"];
  item.title.textContent = item.file.paged ? `${item.path}, page ${item.page}` : item.path;
  item.note.textContent = {
    waiting: "waiting",
    running: "predicting",
    failed: reason(item),
    done: [...marks.filter(Boolean), item.edited ? "" : found?.join(", ") || "nothing found"].filter(Boolean).join(" · "),
  }[state];
  item.element.className = `${state}${item.edited ? " edited" : ""}`;
  item.element.firstChild.toggleAttribute("aria-current", item === current);
}

function updated(item) {
  if (item.removed) return;
  write(item);
  if (item.state === "done" && item.answer.uncertainty !== undefined && item.answer.uncertainty !== null && at("order-field").hidden) {
    at("order-field").hidden = false;
  }
  if (at("order").value !== "added") list();
}

function placed() {
  const place = ordered().indexOf(current);
  at("place").textContent = `${place + 1} / ${items.all.length}`;
  at("previous").disabled = place < 1;
  at("next").disabled = place + 1 >= items.all.length;
}

function step(by) {
  const next = ordered()[ordered().indexOf(current) + by];
  if (next) open(next);
}

async function open(item) {
  restart();
  if (current) current.open = false;
  const before = current;
  current = item;
  item.open = true;
  for (const one of [before, item]) if (one) write(one);
  item.element.scrollIntoView({ block: "nearest" });
  placed();
  tell();
  if (!item.view) {
    if (!before?.view) show("busy");
    at("busy").lastElementChild.textContent = item.path;
  }
  try {
    check(item);
    await items.load(item);
  } catch (error) {
    Object.assign(item, { state: "failed", problem: error.message });
    write(item);
    if (item === current) refuse(item);
    return;
  }
  if (item === current) display(item);
}

function check({ file }) { // before the upload
  if (file.size <= model.limits.max_bytes) return;
  throw new Error(`it has ${number.format(file.size)} bytes; this server accepts at most ${number.format(model.limits.max_bytes)}`);
}

function display(item) {
  const { answer, view } = item;
  const { height, width, bits, channels, format, spacing } = answer.image;
  view.used = performance.now();
  show("view");
  for (const canvas of at("sheet").querySelectorAll("canvas")) Object.assign(canvas, { width, height });
  at("pad").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const facts = [`${width} × ${height}`, `${bits} bits ${channels === 1 ? "grey" : "colour"}`, format];
  if (spacing) facts.push(`${short.format(spacing[1])} × ${short.format(spacing[0])} mm`);
  at("name").replaceChildren(item.title.textContent, make("span", { className: "soft" }, facts.join(", ")));
  at("table").classList.remove("idle");
  at("table").classList.toggle("spaced", Boolean(spacing));
  viewer.open(width, height);
  editor.open(item);
  drawPicture();
  refresh();
  const found = answer.classes.filter((one) => one.area).map((one) => one.name);
  say(`Network: ${short.format(answer.network_ms)} ms, ${item.seconds.toFixed(1)} s in all. Found: ${found.join(", ") || "none of the classes"}.`);
}

/** Write the numbers and draw the masks of the shown image. */
function refresh() {
  rows.forEach((row, index) => {
    const one = current.answer.classes[index];
    fill(row, current.edited ? measureOf(current, index) : one);
    if (row.slider) row.slider.disabled = current.edited;
  });
  for (const [id, stack] of [["undo", current.undo], ["redo", current.redo]]) at(id).disabled = !stack.length;
  at("revert").disabled = !current.edited;
  at("save").disabled = false;
  at("reset").hidden = current.edited || rows.every((row) => row.threshold === row.usual);
  draw();
}

function fill({ cells, head }, { area, area_mm2: mm2, share, confidence }) {
  const texts = [number.format(area), mm2 === null || mm2 === undefined ? "–" : number.format(Math.round(10 * mm2) / 10), percent(share),
    confidence === null ? "–" : confidence.toFixed(2)];
  cells.forEach((cell, index) => (cell.textContent = texts[index]));
  head.classList.toggle("none", !area);
}

function draw(box) {
  if (!current?.layers) return;
  const shown = hidden ? [] : rows.flatMap((row, index) => {
    const [layer, value] = layerOf(current.layers, index);
    return row.box.checked ? [{ layer, value, colour: row.rgb }] : [];
  });
  paint(at("fill"), at("line"), shown, box);
}

// ---- thresholds

function thresholds() {
  const given = rows.filter((row) => row.threshold !== null);
  return given.some((row) => row.threshold !== row.usual) ? given.map((row) => ["threshold", row.threshold]) : [];
}

function pairs(withMaps) {
  return [...(withMaps && model.task === "multilabel" ? [["include", "probabilities"]] : []), ...thresholds()];
}

/** Cancel the requests for the previous thresholds. */
function restart() {
  request.abort();
  request = new AbortController();
  clearTimeout(settling);
}

/** Show a class at its new threshold immediately, without the server. */
function preview(row) {
  if (!current?.view || current.edited) return;
  const index = rows.indexOf(row);
  current.layers[index] = above(current.view.maps[index], row.threshold);
  fill(row, measureOf(current, index, current.view.maps[index]));
  draw();
}

/** Once the thresholds stop changing, request the masks with the server's postprocessing. */
function settle() {
  restart();
  remember();
  at("reset").hidden = rows.every((row) => row.threshold === row.usual);
  const item = current;
  if (!item?.answer || item.edited) return;
  settling = setTimeout(async () => {
    const key = JSON.stringify(thresholds());
    try {
      items.adopt(item, await predict(item.file, [["page", item.page], ...pairs(false)], request.signal), key);
      if (item === current) refresh();
    } catch (error) {
      if (error.name !== "AbortError") say(`Preview only: ${error.message}`);
    }
  }, SETTLED);
}

// ---- display: window and level, opacity, comparison

function windowOf({ levels }) {
  return settings.window ?? levels.auto;
}

function drawPicture() {
  const { levels } = current.view;
  const [low, high] = windowOf(current.view);
  const { value_range: range } = current.answer.image;
  const [start, end] = levels.whole;
  Object.assign(at("level"), { min: start, max: end, value: (low + high) / 2 });
  Object.assign(at("width"), { min: 1, max: Math.max(1, end - start), value: high - low });
  const unit = range ? (range[1] - range[0]) / 65535 : 1;
  at("level-text").textContent = number.format(Math.round((range?.[0] ?? 0) + (unit * (low + high)) / 2));
  at("width-text").textContent = number.format(Math.round(unit * (high - low)));
  at("auto").disabled = !settings.window;
  levels.draw(at("picture"), [low, high]);
}

function setWindow(level, width) {
  const wide = Math.max(1, width);
  settings.window = [level - wide / 2, level + wide / 2];
  requestAnimationFrame(drawPicture);
  remember();
}

function dragWindow(event) {
  if (event.button !== 2 || !current?.view) return;
  event.preventDefault();
  const [low, high] = windowOf(current.view);
  const [start, end] = current.view.levels.whole;
  const per = (end - start || 1) / 500;
  follow(at("scroller"), event, (to) => setWindow((low + high) / 2 + (event.clientY - to.clientY) * per, high - low + (to.clientX - event.clientX) * per));
}

function setOpacity() {
  settings.opacity = Number(at("opacity").value);
  at("fill").style.opacity = settings.opacity / 100;
  at("opacity-text").textContent = `${settings.opacity} %`;
}

/** Masks right of `share` percent of the image only; null: everywhere. */
function compare(share) {
  settings.compare = share === null ? null : Math.max(0, Math.min(100, share));
  const on = settings.compare !== null;
  at("divider").hidden = !on;
  at("divider").style.left = `${settings.compare}%`;
  at("divider").setAttribute("aria-valuenow", Math.round(settings.compare));
  at("compare").setAttribute("aria-pressed", on);
  for (const id of ["fill", "line"]) at(id).style.clipPath = on ? `inset(0 0 0 ${settings.compare}%)` : "";
  remember();
}

function remember() {
  if (!rows.length) return;
  settings.hidden = rows.filter((row) => !row.box.checked).map((row) => row.name);
  settings.thresholds = Object.fromEntries(rows.filter((row) => row.threshold !== row.usual).map((row) => [row.name, row.threshold]));
  settings.form = at("form").selectedIndex > 0 ? at("form").value : null;
  writeSettings(settings);
}

// ---- correction

const HINTS = {
  move: "Drag to move the image.",
  brush: "Draw to add to the class.",
  eraser: "Draw to clear the class; other classes stay.",
  polygon: "Click the corners; Enter, a double click or the first corner closes it. Shift erases.",
  fill: "Click a hole or an outlined area to fill it. Shift and click an object to erase it.",
};

function setCorrect(on) {
  editor.active = on;
  at("palette").hidden = at("hint").hidden = !on;
  at("correct").setAttribute("aria-pressed", on);
  if (on) compare(null);
  if (on) chooseClass(editor.index);
  setTool(on && editor.tool === "move" ? "brush" : editor.tool);
}

function setTool(tool) {
  editor.use(tool);
  for (const button of at("kinds").children) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  at("size-field").hidden = !["brush", "eraser"].includes(tool);
  at("scroller").classList.toggle("drawing", editor.drawing);
  at("hint").textContent = HINTS[tool];
}

function setSize(size) {
  editor.resize(size);
  at("size").value = editor.size;
  at("size-text").textContent = `${editor.size} px`;
}

function chooseClass(index) {
  editor.index = index;
  at("class").value = index;
  at("patch").style.background = rows[index].colour;
  if (rows[index].box.checked || !editor.active) return;
  rows[index].box.checked = true; // what is painted is seen
  draw();
  remember();
}

/** A tool has changed the masks. */
function changed() {
  Object.assign(current, { edited: current.undo.length > 0 || current.saved, unsaved: true });
  if (!current.edited) current.unsaved = false;
  write(current);
  refresh();
}

async function saveCurrent() {
  const item = current;
  if (!model.saves) {
    await download();
    return;
  }
  at("save").disabled = true;
  try {
    const { files } = await save(item.file, item.page, runsByClass(item, model.classes));
    Object.assign(item, { saved: true, unsaved: false });
    say(`Saved ${files.join(", ")}.`);
  } catch (error) {
    say(`Not saved: ${error.message}`);
  }
  at("save").disabled = false;
  write(item);
}

async function download() {
  const chosen = { one: [current], all: items.all.filter(({ state }) => state !== "failed"), edited: items.all.filter(({ edited }) => edited) }[at("scope").value];
  if (!chosen.length) {
    say("No image has been corrected yet.");
    return;
  }
  at("download").disabled = true;
  try {
    for (const item of chosen) await items.load(item, { shown: at("form").value === "overlay" });
    const ready = chosen.map((item) => ({ ...item, layers: item.layers, overlay: () => overlay(item) }));
    const [name, content] = await makeDownload(at("form").value, ready, model);
    keep(new Blob([content]), name);
    if (!["overlay", "areas"].includes(at("form").value)) for (const item of chosen) Object.assign(item, { unsaved: false });
    chosen.forEach(write);
  } catch (error) {
    say(`Nothing was downloaded: ${error.message}`);
  }
  at("download").disabled = false;
}

function keep(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function overlay(item) {
  const { width, height, levels } = item.view;
  const [whole, fillings, lines] = Array.from({ length: 3 }, () => make("canvas", { width, height }));
  levels.draw(whole, windowOf(item.view));
  paint(fillings, lines, rows.flatMap((row, index) => {
    const [layer, value] = layerOf(item.layers, index);
    return row.box.checked ? [{ layer, value, colour: row.rgb }] : [];
  }));
  const context = whole.getContext("2d");
  context.globalAlpha = settings.opacity / 100;
  context.drawImage(fillings, 0, 0);
  context.globalAlpha = 1;
  context.drawImage(lines, 0, 0);
  const blob = await new Promise((done) => whole.toBlob(done));
  return new Uint8Array(await blob.arrayBuffer());
}

// ---- visibility and messages

function show(id) {
  for (const one of ["drop", "busy", "view"]) at(one).hidden = one !== id;
  at("tools").hidden = id !== "view";
}

function say(words) {
  at("status").textContent = words;
}

function tell(title = "", words = "") {
  at("problem").hidden = !title;
  at("problem").firstElementChild.textContent = title;
  at("problem").lastElementChild.textContent = words;
}

function reason({ file, problem }) {
  const words = problem?.startsWith(`${file.name}: `) ? problem.slice(file.name.length + 2) : problem ?? "";
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}

function refuse(item) {
  say("");
  show("drop");
  at("table").classList.add("idle");
  at("reset").hidden = true;
  tell(`${item.path} was rejected`, reason(item));
}

// ---- events

const KEYS = {
  ",": () => step(-1), ".": () => step(1), "+": () => viewer.by(1.25), "=": () => viewer.by(1.25), "-": () => viewer.by(0.8), 0: () => viewer.fit(),
  m: () => { hidden = !hidden; draw(); },
  c: () => setCorrect(!editor.active),
  "?": () => at("help").showModal(),
};
const TOOLS = { v: "move", b: "brush", e: "eraser", p: "polygon", f: "fill" };

document.addEventListener("keydown", (event) => {
  if (at("help").open || !current?.view || at("view").hidden || event.altKey || event.target.matches("select, input:not([type=range], [type=checkbox])")) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let done = true;
  if (event.ctrlKey || event.metaKey) {
    if (name === "s") saveCurrent().then(() => step(1));
    else if (editor.active && (name === "y" || (name === "z" && event.shiftKey))) editor.redo();
    else if (editor.active && name === "z") editor.undo();
    else done = false;
  } else if (editor.key(event)) done = true;
  else if (editor.active && name in TOOLS) setTool(TOOLS[name]);
  else if (editor.active && (name === "[" || name === "]")) setSize(editor.size + (name === "[" ? -1 : 1));
  else if (/^[1-9]$/.test(name) && rows[name - 1]) {
    if (editor.active) chooseClass(name - 1);
    else rows[name - 1].box.click();
  } else if (name in KEYS) KEYS[name]();
  else done = false;
  if (done) event.preventDefault();
});
for (const id of ["file", "folder"]) {
  at(id).addEventListener("change", () => {
    take([...at(id).files].map((file) => [file, file.webkitRelativePath.split("/").slice(1).join("/") || file.name]));
    at(id).value = ""; // allows choosing the same file again
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
at("examples").addEventListener("click", async () => {
  try {
    take(await Promise.all(model.examples.map(async (name, index) => [await readExample(index, name), name])));
  } catch (error) {
    tell("The examples could not be loaded", error.message);
  }
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberToken(at("token-text").value);
  start();
});
const clicks = {
  larger: () => viewer.by(1.25), smaller: () => viewer.by(0.8), fit: () => viewer.fit(), previous: () => step(-1), next: () => step(1),
  compare: () => compare(settings.compare === null ? 50 : null), correct: () => setCorrect(!editor.active),
  undo: () => editor.undo(), redo: () => editor.redo(), download, save: saveCurrent, keys: () => at("help").showModal(),
  auto: () => { settings.window = null; drawPicture(); remember(); },
  revert: async () => { const item = current; await items.revert(item); editor.open(item); refresh(); },
  link: async () => {
    remember();
    await navigator.clipboard.writeText(location.href).then(() => say("The link is in the clipboard."), () => say(`The link: ${location.href}`));
  },
  remove: () => {
    const place = ordered().indexOf(current);
    if (current.unsaved && !confirm("Its corrections have not been saved. Remove it all the same?")) return;
    items.remove(current);
    current = null;
    const next = ordered()[place] ?? ordered().at(-1);
    if (next) open(next);
    else { show("drop"); say(""); at("table").classList.add("idle"); }
  },
  reset: () => {
    for (const row of rows) {
      row.threshold = row.usual;
      row.write?.();
      if (row.slider) preview(row);
    }
    settle();
  },
};
for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
for (const button of at("kinds").children) button.addEventListener("click", () => setTool(button.dataset.tool));
at("opacity").addEventListener("input", () => { setOpacity(); remember(); });
for (const id of ["level", "width"]) at(id).addEventListener("input", () => setWindow(Number(at("level").value), Number(at("width").value)));
at("size").addEventListener("input", () => setSize(Number(at("size").value)));
at("class").addEventListener("change", () => chooseClass(Number(at("class").value)));
at("form").addEventListener("change", remember);
at("order").addEventListener("change", list);
at("scroller").addEventListener("contextmenu", (event) => event.preventDefault());
at("scroller").addEventListener("pointerdown", dragWindow);
at("divider").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  at("divider").focus();
  follow(at("divider"), event, (to) => compare((100 * viewer.point(to)[0]) / viewer.width));
});
at("divider").addEventListener("keydown", (event) => {
  const to = { ArrowLeft: settings.compare - 2, ArrowRight: settings.compare + 2, Home: 0, End: 100 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  compare(to);
});
window.addEventListener("beforeunload", (event) => {
  if (items.all.some(({ unsaved }) => unsaved)) event.preventDefault();
});
at("opacity").value = settings.opacity;
setOpacity();
setSize(8);
compare(settings.compare);
start();
