// Download formats of the images in the list. An item has `file`, `stem`, `answer` and `layers`.

import { png, zip } from "./files.js";
import { encodeRuns, layerOf, measure } from "./masks.js";
import { objects } from "./shapes.js";

const json = (content) => JSON.stringify(content, null, 1);

/** The formats, in the order of the menu: [name, title, files of an item]. */
export function formatsOf({ task, classes, objects: numbered }) {
  const classFiles = (item) => Promise.all(classes.map(async ({ folder }, index) =>
    [`masks/${folder}/${item.stem}.png`, await classMask(item, index)]));
  const formats = [
    ["classes", "One mask per class", classFiles],
    ["overlay", "Overlay", async (item) => [[`${item.stem}_overlay.png`, await item.overlay()]]],
    ["json", "JSON with polygons", (item) => [[`${item.stem}_result.json`, json(result(item, classes))]]],
    ["coco", "COCO", null],
    ["labelme", "labelme", async (item) => [[`${item.stem}.json`, json(await labelme(item, classes))]]],
    ["areas", "Area table", null],
  ];
  const palette = [[0, 0, 0], ...classes.map(({ colour }) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)))];
  const indexedFiles = async (item) => [[`masks/${item.stem}.png`, await png(item.layers[0], ...sizeOf(item), palette)]];
  const objectFiles = (item) => Promise.all(classes.map(async ({ folder }, index) =>
    [`objects/${folder}/${item.stem}.png`, await png(Uint16Array.from(item.layers.objects[index]), ...sizeOf(item))]));
  if (numbered) formats.unshift(["objects", "Object numbers", objectFiles]);
  return task === "multiclass" ? [["masks", "Mask", indexedFiles], ...formats] : formats;
}

/** Name and contents of the file to download: a ZIP if there are several. */
export async function makeDownload(form, items, model) {
  const base = items.length === 1 ? items[0].stem.split("/").pop() : "images";
  if (form === "coco") return [`${base}_coco.json`, json(coco(items, model.classes))];
  if (form === "areas") return [`${base}_areas.csv`, areas(items, model.classes)];
  const make = formatsOf(model).find(([name]) => name === form)[2];
  const files = (await Promise.all(items.map(make))).flat();
  if (files.length === 1) return [form === "masks" ? `${base}_mask.png` : files[0][0].split("/").pop(), files[0][1]];
  if (form === "masks") files.push(["classes.txt", model.classes.map(({ name }) => `${name}\n`).join("")]);
  return [`${base}_${form}.zip`, zip(files)];
}

export const runsByClass = (item, classes) =>
  Object.fromEntries(classes.map(({ name }, index) => [name, encodeRuns(item.layers, index)]));

const sizeOf = ({ answer: { image } }) => [image.width, image.height];

function classMask(item, index) {
  const [layer, value] = layerOf(item.layers, index);
  return png(layer.map((one) => (one === value ? 255 : 0)), ...sizeOf(item));
}

const objectsOf = (item, index) => {
  const [layer, value] = layerOf(item.layers, index);
  return objects(layer, value, sizeOf(item), item.layers.objects?.[index]);
};

/** The parts to annotate: each object {on, box} if the model segments objects, else the class; `on(at)` tests a pixel. */
function annotatedParts(item, index) {
  const [layer, value] = layerOf(item.layers, index);
  const [width, height] = sizeOf(item);
  const numbers = item.layers.objects?.[index];
  if (!numbers) return [{ on: (at) => layer[at] === value, box: [0, 0, width, height] }];
  const boxes = new Map();
  numbers.forEach((number, at) => {
    if (!number) return;
    const [column, row] = [at % width, Math.floor(at / width)];
    const [left, top, right, bottom] = boxes.get(number) ?? [width, height, 0, 0];
    boxes.set(number, [Math.min(left, column), Math.min(top, row), Math.max(right, column + 1), Math.max(bottom, row + 1)]);
  });
  return [...boxes].sort(([a], [b]) => a - b).map(([number, box]) => ({ on: (at) => numbers[at] === number, box }));
}

function result(item, classes) {
  return {
    ...item.answer,
    corrected: item.edited,
    classes: item.answer.classes.map((one, index) => ({
      ...one,
      ...(item.edited ? { ...measureOf(item, index), confidence: null, rle: encodeRuns(item.layers, index) } : {}),
      polygons: objectsOf(item, index).map(({ area, rings }) => ({ area, outline: rings[0], holes: rings.slice(1) })),
      name: classes[index].name,
    })),
  };
}

/** Area in pixels and, where the spacing is known, mm2, and share of the image. */
export function measureOf(item, index, probabilities) {
  const found = measure(item.layers, index, probabilities);
  const { spacing } = item.answer.image;
  return { ...found, area_mm2: spacing ? found.area * spacing[0] * spacing[1] : null };
}

/** COCO with run lengths, which keep every pixel, per object if the model segments objects. `iscrowd` is 1 for whole classes. */
function coco(items, classes) {
  const images = items.map((item, index) => {
    const [width, height] = sizeOf(item);
    return { id: index + 1, file_name: item.path, width, height };
  });
  const annotations = items.flatMap((item, image) => classes.flatMap((_, index) => annotatedParts(item, index).flatMap((whole) => {
    const one = annotation(whole, sizeOf(item));
    return one ? [{ image_id: image + 1, category_id: index + 1, ...one, iscrowd: item.layers.objects ? 0 : 1 }] : [];
  })));
  annotations.forEach((one, index) => Object.assign(one, { id: index + 1 }));
  return { images, annotations, categories: classes.map(({ name }, index) => ({ id: index + 1, name })) };
}

function annotation({ on, box }, [width, height]) {
  const counts = []; // of pixels off and on in turn, down the columns
  let [left, top, right, bottom, area, end] = [width, height, 0, 0, 0, 0];
  for (let column = box[0]; column < box[2]; column += 1) {
    for (let row = box[1]; row < box[3]; row += 1) {
      if (!on(row * width + column)) continue;
      const place = column * height + row;
      if (counts.length && place === end) counts[counts.length - 1] += 1;
      else counts.push(place - end, 1);
      end = place + 1;
      area += 1;
      [left, top] = [Math.min(left, column), Math.min(top, row)];
      [right, bottom] = [Math.max(right, column + 1), Math.max(bottom, row + 1)];
    }
  }
  if (end < width * height) counts.push(width * height - end);
  const bbox = [left, top, right - left, bottom - top];
  return area ? { segmentation: { size: [height, width], counts }, bbox, area } : null;
}

/** A mask of its box per object: labelme's polygons have no holes and take in the pixels of their edge. */
async function labelme(item, classes) {
  const [width, height] = sizeOf(item);
  const shapes = classes.flatMap(({ name }, index) => shapesOf(item, index).map(async (one) => ({
    label: name, group_id: null, description: "", flags: {}, ...(await boxMask(item, one)),
  })));
  return {
    version: "5.5.0", flags: {}, shapes: await Promise.all(shapes), imagePath: item.path.split("/").pop(), imageData: null,
    imageHeight: height, imageWidth: width,
  };
}

function shapesOf(item, index) {
  if (item.layers.objects) return annotatedParts(item, index);
  const [layer, value] = layerOf(item.layers, index);
  return objectsOf(item, index).map(({ box }) => ({ on: (at) => layer[at] === value, box }));
}

async function boxMask(item, { on, box: [left, top, right, bottom] }) {
  const [width] = sizeOf(item);
  const values = new Uint8Array((right - left) * (bottom - top));
  for (let at = 0; at < values.length; at += 1) {
    const column = at % (right - left);
    const row = (at - column) / (right - left);
    values[at] = on((top + row) * width + left + column) ? 255 : 0;
  }
  const bytes = await png(values, right - left, bottom - top);
  return { shape_type: "mask", points: [[left, top], [right - 1, bottom - 1]], mask: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}

function areas(items, classes) {
  const cell = (words) => {
    const safe = /^[=+\-@\t\r']/.test(words) ? `'${words}` : words; // a spreadsheet would run it
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const rows = items.flatMap((item) => classes.map(({ name }, index) => {
    const { area, area_mm2: mm2, share } = measureOf(item, index);
    return [cell(item.path), item.page, cell(name), area, share.toFixed(6), mm2 === null ? "" : mm2.toFixed(3), item.edited ? "yes" : "no"];
  }));
  return ["image,page,class,area_px,share,area_mm2,corrected", ...rows.map((row) => row.join(","))].join("\n").concat("\n");
}
