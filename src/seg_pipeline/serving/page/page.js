import { predict, readModel, rememberToken } from "./api.js";
import { above, decodeGrey, decodePicture, decodeRuns, measure, paint, rgb } from "./masks.js";
import { Viewer } from "./viewer.js";

const SETTLED = 350; // milliseconds from the last threshold change to the request

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const percent = (share) => `${(100 * share).toFixed(share && share < 0.0995 ? 2 : 1)} %`;

let model;
let rows = []; // one per class: elements, colour, visibility, threshold, mask and probabilities
let shown; // file, response and size of the displayed image
let request = new AbortController();
let settling;

const viewer = new Viewer(at("scroller"), at("sheet"), (zoom) => {
  at("zoom").textContent = `${Math.round(100 * zoom)}%`;
});

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
  const { classes, limits, task, provenance } = model;
  at("about").textContent = `${classes.length} ${classes.length === 1 ? "class" : "classes"}, ${
    task === "multilabel" ? "which may overlap" : "one per pixel"
  }`;
  at("limits").textContent = `${limits.formats.join(", ")}; up to ${number.format(limits.max_bytes / 1e6)} MB and ${number.format(
    Math.round(limits.max_pixels / 1e5) / 10,
  )} million pixels. Grey or colour, 8 or 16 bits.`;
  at("model").textContent = describe(provenance, model.input);
  at("save-note").textContent = `The mask contains all classes, including hidden ones${
    task === "multilabel" ? ", stacked vertically" : ", as colour indices"
  }; the overlay is the image as displayed.`;
  rows = classes.map(makeRow);
  at("classes").replaceChildren(...rows.flatMap((row) => row.elements));
}

function describe(provenance, input) {
  const [first] = provenance.models ?? []; // of an ensemble
  const parts = [`input ${input.size[1]} × ${input.size[0]}`];
  if (first?.best?.val_dice) parts.push(`validation Dice ${first.best.val_dice.toFixed(3)}`);
  if (first?.weights_sha256) parts.push(`weights ${first.weights_sha256.slice(0, 12)}`);
  if (Array.isArray(input.channels)) parts.push("made for series: a single image stands in for its neighbours");
  return `Model: ${parts.join("; ")}.`;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function makeRow({ name, colour, threshold }, index) {
  const box = make("input", { type: "checkbox", checked: true });
  const patch = make("i");
  patch.style.background = colour;
  const cells = ["Pixels", "Share", "Confidence"].map((title) => {
    const cell = make("td", {}, "–");
    cell.dataset.name = title; // label beside the number on narrow screens
    return cell;
  });
  const label = make("label", { className: "choice" }, box, patch, name);
  const head = make("tr", { className: "class none" }, make("th", { scope: "row" }, label), ...cells);
  const row = { name, box, cells, head, rgb: rgb(colour), threshold, usual: threshold, elements: [head] };
  box.addEventListener("change", draw);
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
  return make("tr", { className: "level" }, make("td", { colSpan: 4 }, make("label", { className: "slider", htmlFor: id }, "Threshold", value), row.slider));
}

// ---- one image

async function open(file) {
  if (!file || !model) return;
  if (file.size > model.limits.max_bytes) { // checked before the upload
    return refuse(file, `it has ${number.format(file.size)} bytes; this server accepts at most ${number.format(model.limits.max_bytes)}`);
  }
  restart();
  tell();
  say("");
  show("busy");
  at("busy").lastElementChild.textContent = file.name;
  const began = performance.now();
  try {
    const query = [["include", "display"]];
    if (model.task === "multilabel") query.push(["include", "probabilities"]);
    await take(file, await (await predict(file, query, request.signal)).json());
  } catch (error) {
    if (error.name !== "AbortError") refuse(file, error.message);
    return;
  }
  const found = shown.answer.classes.filter((one) => one.area).map((one) => one.name);
  say(`Done in ${((performance.now() - began) / 1000).toFixed(1)} s. Found: ${found.join(", ") || "none of the classes"}.`);
}

/** Cancel the requests for the previous image. */
function restart() {
  request.abort();
  request = new AbortController();
  clearTimeout(settling);
}

async function take(file, answer) {
  const { height, width, bits, channels, format } = answer.image;
  const [picture, ...maps] = await Promise.all([
    decodePicture(answer.display),
    ...answer.classes.map((one) => one.probabilities && decodeGrey(one.probabilities)),
  ]);
  for (const one of answer.classes) delete one.probabilities;
  delete answer.display;
  shown = { file, answer, height, width };
  for (const canvas of at("sheet").children) Object.assign(canvas, { width, height });
  at("picture").getContext("2d").drawImage(picture, 0, 0, width, height);
  rows.forEach((row, index) => {
    row.probabilities = maps[index];
    row.threshold = row.usual;
    row.write?.();
  });
  at("reset").hidden = true;
  at("name").replaceChildren(file.name, make("span", { className: "soft" }, `${width} × ${height}, ${bits} bits ${channels === 1 ? "grey" : "colour"}, ${format}`));
  at("table").classList.remove("idle");
  show("view");
  viewer.open(width, height);
  adopt(answer);
}

/** Show the server's masks and numbers. */
function adopt(answer) {
  shown.answer = answer;
  rows.forEach((row, index) => {
    row.mask = decodeRuns(answer.classes[index].rle, shown.height * shown.width);
    write(row, answer.classes[index]);
  });
  draw();
}

/** Show a class at its new threshold immediately, without the server. */
function preview(row) {
  row.mask = above(row.probabilities, row.threshold);
  write(row, measure(row.mask, row.probabilities));
  draw();
}

/** Once the thresholds stop changing, request the masks with the server's postprocessing. */
function settle() {
  restart();
  at("reset").hidden = rows.every((row) => row.threshold === row.usual);
  settling = setTimeout(async () => {
    try {
      adopt(await (await predict(shown.file, thresholds(), request.signal)).json());
      say("");
    } catch (error) {
      if (error.name !== "AbortError") say(`Preview only: ${error.message}`);
    }
  }, SETTLED);
}

function thresholds() {
  return rows.filter((row) => row.threshold !== null).map((row) => ["threshold", row.threshold]);
}

function write({ cells, head }, { area, share, confidence }) {
  const texts = [number.format(area), percent(share), confidence === null ? "–" : confidence.toFixed(2)];
  cells.forEach((cell, index) => (cell.textContent = texts[index]));
  head.classList.toggle("none", !area);
}

function draw() {
  const layers = rows.filter((row) => row.box.checked).map((row) => ({ mask: row.mask, colour: row.rgb }));
  paint(at("fill"), at("line"), layers);
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

function refuse(file, words) {
  restart();
  say("");
  show("drop");
  at("table").classList.add("idle");
  at("reset").hidden = true;
  const reason = words.startsWith(`${file.name}: `) ? words.slice(file.name.length + 2) : words;
  tell(`${file.name} was rejected`, `${reason[0].toUpperCase()}${reason.slice(1)}.`);
}

function setOpacity() {
  at("fill").style.opacity = at("opacity").value / 100;
  at("opacity-text").textContent = `${at("opacity").value} %`;
}

// ---- downloads

function save(blob, ending) {
  const stem = shown.file.name.replace(/\.[^.]*$/, "") || "image";
  const link = make("a", { href: URL.createObjectURL(blob), download: `${stem}${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function saveMask() {
  try {
    const answer = await predict(shown.file, [["response_format", "mask"], ...thresholds()]);
    save(await answer.blob(), "_mask.png");
  } catch (error) {
    say(`The mask could not be saved: ${error.message}`);
  }
}

function saveOverlay() {
  const { width, height } = shown;
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(at("picture"), 0, 0);
  context.globalAlpha = at("opacity").value / 100;
  context.drawImage(at("fill"), 0, 0);
  context.globalAlpha = 1;
  context.drawImage(at("line"), 0, 0);
  canvas.toBlob((blob) => save(blob, "_overlay.png"));
}

function saveJson() {
  save(new Blob([JSON.stringify(shown.answer, null, 2)], { type: "application/json" }), "_result.json");
}

// ---- event listeners

at("file").addEventListener("change", () => {
  open(at("file").files[0]);
  at("file").value = ""; // allows choosing the same file again
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  open(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberToken(at("token-text").value);
  start();
});
at("larger").addEventListener("click", () => viewer.by(1.25));
at("smaller").addEventListener("click", () => viewer.by(0.8));
at("fit").addEventListener("click", () => viewer.fit());
at("opacity").addEventListener("input", setOpacity);
at("save-mask").addEventListener("click", saveMask);
at("save-overlay").addEventListener("click", saveOverlay);
at("save-json").addEventListener("click", saveJson);
at("reset").addEventListener("click", () => {
  for (const row of rows) {
    row.threshold = row.usual;
    row.write?.();
    if (row.slider) preview(row);
  }
  settle();
});
setOpacity();
start();
