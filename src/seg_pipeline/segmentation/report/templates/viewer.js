// Enlarges figures and images. page.py documents the data attributes, pictures.py the data.

const data = JSON.parse(document.querySelector("#pictures")?.textContent ?? '{"names":[],"colours":[],"kinds":[],"pictures":[]}');
const known = new Map(data.pictures.map((one) => [one.id, one]));
const VIEWS = [["both", "Both", "b"], ["true", "Ground truth", "g"], ["found", "Prediction", "p"], ["difference", "Difference", "d"]];
const WRONG = { extra: [213, 94, 0, 1], missing: [0, 114, 178, 1], right: [255, 255, 255, 0.3] }; // the last is a share of the opacity
const SHARP = 1024;
const LINE = 2;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const state = { items: [], at: 0, view: "both", overlay: true, opacity: 0.5, hidden: new Set(), zoom: 1, x: 0, y: 0 };
const stage = element("div", { class: "stage" });
const title = element("b"), place = element("span"), caption = element("p"), legend = element("p", { class: "legend" });
const button = (text, hint, act) => element("button", { type: "button", title: hint, "aria-label": hint, onclick: act }, text);
const views = VIEWS.map(([view, name, key]) => button(name, `${name} (${key})`, () => change({ view, overlay: true })));
const overlay = element("input", { type: "checkbox", onchange: () => change({ overlay: overlay.checked }) });
const opacity = element("input", { type: "range", min: 0.1, max: 1, step: 0.1, oninput: () => change({ opacity: Number(opacity.value) }) });
const classes = data.names.map((name, index) => {
  const box = element("input", { type: "checkbox", checked: true, onchange: () => toggle(index) });
  const swatch = element("i");
  swatch.style.background = data.colours[index];
  return element("label", {}, box, swatch, ` ${name}`);
});
const controls = element("div", { class: "controls" },
  element("span", { class: "views", role: "group", "aria-label": "view" }, ...views),
  element("label", { title: "o" }, overlay, " overlay"),
  element("label", { title: "[ and ]" }, "opacity ", opacity), ...classes);
const viewer = element("dialog", { class: "viewer", tabindex: "-1", "aria-label": "enlarged image" },
  element("header", {}, title, place, element("span", { class: "tools" },
    button("−", "zoom out (−)", () => zoomBy(0.8)), button("+", "zoom in (+)", () => zoomBy(1.25)),
    button("Fit", "fit (0)", () => fit()), button("‹", "previous (←)", () => step(-1)),
    button("›", "next (→)", () => step(1)), button("×", "close (Esc)", () => viewer.close()))),
  stage, controls, legend, caption);
document.body.append(viewer);

function open(items, at) {
  Object.assign(state, { items, at });
  if (!viewer.open) viewer.showModal();
  viewer.focus();
  show();
}

function step(by) {
  state.at = (state.at + by + state.items.length) % state.items.length;
  show();
}

function change(values) {
  Object.assign(state, values);
  state.opacity = Math.min(1, Math.max(0.1, state.opacity));
  paint();
}

function toggle(index) {
  if (index === undefined) return;
  if (!state.hidden.delete(index)) state.hidden.add(index);
  paint();
}

async function show() {
  const item = state.items[state.at], picture = known.get(item.id);
  title.textContent = item.title;
  place.textContent = `${state.at + 1} of ${state.items.length}`;
  caption.textContent = picture?.caption ?? item.caption;
  controls.hidden = legend.hidden = !picture;
  fit();
  if (!picture) return stage.replaceChildren(element("img", { src: item.source, alt: item.title }));
  picture.pixels ??= await decoded(picture);
  if (state.items[state.at] === item) paint();
}

async function decoded(picture) {
  const image = element("img", { src: picture.image });
  await image.decode();
  picture.masks = {};
  for (const kind of ["true", ...data.kinds]) {
    picture.masks[kind] = Object.entries(picture[kind]).map(([index, text]) => [Number(index), runs(text, picture.width * picture.height)]);
  }
  return image;
}

function classesIn(picture) {
  return [...data.names.keys()].filter((index) => ["true", ...data.kinds].some((kind) => index in (picture?.[kind] ?? {})));
}

function runs(text, size) {
  const mask = new Uint8Array(size), numbers = text.split(" ").map(Number);
  for (let at = 0; at < numbers.length; at += 2) mask.fill(1, numbers[at] - 1, numbers[at] - 1 + numbers[at + 1]);
  return mask;
}

function paint() {
  const picture = known.get(state.items[state.at]?.id);
  if (!picture?.pixels) return;
  overlay.checked = state.overlay;
  opacity.value = state.opacity;
  for (const [index, one] of views.entries()) one.setAttribute("aria-pressed", state.overlay && VIEWS[index][0] === state.view);
  const here = classesIn(picture);
  for (const [index, label] of classes.entries()) {
    label.hidden = !here.includes(index);
    label.querySelector("input").checked = !state.hidden.has(index);
  }
  stage.replaceChildren(...data.kinds.map((kind) => {
    const figure = element("figure", {}, drawn(picture, kind));
    if (data.kinds.length > 1) figure.append(element("figcaption", {}, kind === "found" ? "this run" : "other run"));
    return figure;
  }));
  const words = { both: "Tint: prediction. Line: ground truth.", true: "Tint: ground truth.", found: "Tint: prediction." };
  legend.replaceChildren(...(state.view === "difference"
    ? [["right", "correct"], ["extra", "false positive"], ["missing", "false negative"]].map(([key, name]) => {
      const swatch = element("i");
      swatch.style.background = `rgb(${WRONG[key].slice(0, 3)})`;
      return element("span", {}, swatch, ` ${name}`);
    }) : [words[state.view]]), ...(picture.spots.length ? [" Rings: objects too small to see."] : []));
  move();
}

// Canvases have several pixels per pixel of a small image, so that lines stay thin.
function drawn(picture, kind) {
  const { width, height } = picture, times = Math.max(1, Math.floor(SHARP / Math.max(width, height)));
  const canvas = element("canvas", { width: width * times, height: height * times, role: "img", "aria-label": `${picture.id}, ${kind}` });
  const context = canvas.getContext("2d");
  context.drawImage(picture.pixels, 0, 0, canvas.width, canvas.height);
  if (!state.overlay) return canvas;
  const seen = ([index]) => !state.hidden.has(index);
  const truth = picture.masks.true.filter(seen), found = picture.masks[kind].filter(seen);
  context.imageSmoothingEnabled = false;
  const tint = state.view === "difference" ? difference(picture, new Map(truth), new Map(found)) : colours(picture, state.view === "true" ? truth : found);
  context.drawImage(tint, 0, 0, canvas.width, canvas.height);
  for (const [index, mask] of state.view === "both" ? truth : []) {
    outline(context, mask, "#000", 2 * LINE, width, times); // keeps the line visible on a tint of its own colour
    outline(context, mask, data.colours[index], LINE, width, times);
  }
  for (const [x, y] of picture.spots) ring(context, x * times, y * times);
  return canvas;
}

function painted({ width, height }, colourOf) {
  const canvas = element("canvas", { width, height }), context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const colour = colourOf(pixel);
    if (colour) image.data.set([...colour.slice(0, 3), 255 * state.opacity * (colour[3] ?? 1)], 4 * pixel);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Where classes overlap, the mean of their colours.
function colours(picture, layers) {
  const rgb = new Map(layers.map(([index]) => [index, data.colours[index].match(/\w\w/g).map((part) => Number.parseInt(part, 16))]));
  return painted(picture, (pixel) => {
    const here = layers.filter(([, mask]) => mask[pixel]);
    return here.length ? [0, 1, 2].map((part) => here.reduce((sum, [index]) => sum + rgb.get(index)[part], 0) / here.length) : null;
  });
}

// A pixel with any error counts as an error.
function difference(picture, truth, found) {
  const pairs = [...new Set([...truth.keys(), ...found.keys()])].map((index) => [truth.get(index), found.get(index)]);
  return painted(picture, (pixel) => {
    let right = false;
    for (const [one, other] of pairs) {
      const isTrue = one?.[pixel], isPredicted = other?.[pixel];
      if (isTrue && !isPredicted) return WRONG.missing;
      if (isPredicted && !isTrue) return WRONG.extra;
      right ||= isTrue;
    }
    return right ? WRONG.right : null;
  });
}

function outline(context, mask, colour, line, width, times) {
  context.fillStyle = colour;
  for (let pixel = 0; pixel < mask.length; pixel += 1) {
    if (!mask[pixel]) continue;
    const column = pixel % width, left = column * times, top = Math.floor(pixel / width) * times;
    if (column === 0 || !mask[pixel - 1]) context.fillRect(left, top, line, times);
    if (column === width - 1 || !mask[pixel + 1]) context.fillRect(left + times - line, top, line, times);
    if (!mask[pixel - width]) context.fillRect(left, top, times, line);
    if (!mask[pixel + width]) context.fillRect(left, top + times - line, times, line);
  }
}

function ring(context, x, y) {
  const radius = Math.max(context.canvas.width, context.canvas.height) / 50;
  for (const [colour, width] of [["#000", 0.35], ["#fff", 0.15]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width * radius });
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

function fit() {
  Object.assign(state, { zoom: 1, x: 0, y: 0 });
  move();
}

function zoomBy(factor, x = 0, y = 0) {
  const zoom = Math.min(16, Math.max(1, state.zoom * factor)), grown = zoom / state.zoom;
  Object.assign(state, zoom === 1 ? { x: 0, y: 0 } : { x: x + grown * (state.x - x), y: y + grown * (state.y - y) }, { zoom });
  move();
}

function move() {
  for (const one of stage.querySelectorAll("canvas, img")) {
    one.style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
    one.style.imageRendering = state.zoom > 4 ? "pixelated" : "auto";
  }
}

// One finger or the mouse pans a zoomed image, or else swipes to the next; two fingers zoom.
const fingers = new Map();
let swiped = 0;
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, event);
  swiped = 0;
});
stage.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
  if (other) zoomBy(spread(event, other) / Math.max(1, spread(before, other)));
  else if (state.zoom > 1) Object.assign(state, { x: state.x + event.clientX - before.clientX, y: state.y + event.clientY - before.clientY });
  else swiped += event.clientX - before.clientX;
  fingers.set(event.pointerId, event);
  move();
});
for (const kind of ["pointerup", "pointercancel"]) {
  stage.addEventListener(kind, (event) => {
    if (fingers.delete(event.pointerId) && kind === "pointerup" && fingers.size === 0 && Math.abs(swiped) > 60) step(swiped > 0 ? -1 : 1);
  });
}
const spread = (one, other) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
}, { passive: false });
stage.addEventListener("dblclick", () => (state.zoom > 1 ? fit() : zoomBy(3)));

viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === opacity && event.key.startsWith("Arrow")) return;
  const view = VIEWS.find(([, , key]) => key === event.key);
  const acts = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: () => fit(),
    o: () => change({ overlay: !state.overlay }), "[": () => change({ opacity: state.opacity - 0.1 }), "]": () => change({ opacity: state.opacity + 0.1 }),
  };
  if (view) change({ view: view[0], overlay: true });
  else if (acts[event.key]) acts[event.key]();
  else if (/^[1-9]$/.test(event.key)) toggle(classesIn(known.get(state.items[state.at].id))[Number(event.key) - 1]);
  else return;
  event.preventDefault();
});

function opens(target, items, at) {
  target.addEventListener("click", (event) => {
    if (!event.target.closest("a")) open(items(), at());
  });
}

for (const list of document.querySelectorAll(".charts, .plots, .pictures")) {
  const figures = [...list.querySelectorAll("figure:has(img)")];
  const items = figures.map((figure) => ({
    id: figure.dataset.picture, source: figure.querySelector("img").src, title: figure.querySelector("b")?.textContent ?? "",
    caption: figure.querySelector("figcaption")?.textContent ?? "",
  }));
  for (const [at, figure] of figures.entries()) {
    const image = figure.querySelector("img");
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.addEventListener("keydown", (event) => { if (event.key === "Enter") open(items, at); });
    opens(image, () => items, () => at);
  }
}
for (const row of document.querySelectorAll("[data-row][data-picture]")) {
  const shown = () => [...row.parentNode.children].filter((one) => one.dataset.picture && !one.hidden);
  const items = () => shown().map((one) => ({ id: one.dataset.picture, title: one.dataset.picture, caption: "" }));
  const name = row.cells[0];
  name.replaceChildren(element("button", { type: "button", class: "link" }, name.textContent));
  opens(row, items, () => shown().indexOf(row));
}
