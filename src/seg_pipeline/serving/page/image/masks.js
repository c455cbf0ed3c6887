// Masks in layers: a Uint8Array per class of 0 and 1, or one for all classes of a multiclass model, of 0 and class + 1.
// If the model segments objects, `layers.objects` has their numbers, a Uint32Array per class.

/** The layer of a class and its value there. */
export function layerOf(layers, index) {
  return layers.exclusive ? [layers[0], index + 1] : [layers[index], 1];
}

export function makeLayers(number, exclusive, pixels) {
  return Object.assign(Array.from({ length: exclusive ? 1 : number }, () => new Uint8Array(pixels)), { exclusive });
}

/** Layers from the run lengths "start length start length ...", counted from 1, of each class. */
export function decodeRuns(texts, exclusive, pixels) {
  const layers = makeLayers(texts.length, exclusive, pixels);
  texts.forEach((text, index) => {
    const [layer, value] = layerOf(layers, index);
    const runs = text ? text.split(" ") : [];
    for (let at = 0; at < runs.length; at += 2) {
      const start = runs[at] - 1;
      layer.fill(value, start, start + Number(runs[at + 1]));
    }
  });
  return layers;
}

/** Layers of "start length object start length object ..." of each class. */
export function decodeObjects(texts, pixels) {
  const layers = makeLayers(texts.length, false, pixels);
  layers.objects = texts.map((text, index) => {
    const numbers = new Uint32Array(pixels);
    const runs = text ? text.split(" ").map(Number) : [];
    for (let at = 0; at < runs.length; at += 3) {
      const [start, end] = [runs[at] - 1, runs[at] - 1 + runs[at + 1]];
      numbers.fill(runs[at + 2], start, end);
      layers[index].fill(1, start, end);
    }
    return numbers;
  });
  return layers;
}

/** Run lengths of a class, as the server writes them; with their objects, if the model knows them. */
export function encodeRuns(layers, index) {
  const [layer, value] = layerOf(layers, index);
  const numbers = layers.objects?.[index] ?? layer;
  const runs = [];
  for (let at = 0; at < layer.length; at += 1) {
    if (layer[at] !== value) continue;
    const start = at;
    while (layer[at + 1] === value && numbers[at + 1] === numbers[start]) at += 1;
    runs.push(start + 1, at - start + 1);
    if (layers.objects) runs.push(numbers[start]);
  }
  return runs.join(" ");
}

/** Threshold (0 to 1) probabilities (0 to 255): returns a Uint8Array of 0 and 1. */
export function above(probabilities, threshold) {
  const level = threshold * 255;
  return Uint8Array.from(probabilities, (value) => value > level);
}

/** Area, share of the image, and mean probability inside a mask (null if it is empty or the probabilities are not known). */
export function measure(layers, index, probabilities) {
  const [layer, value] = layerOf(layers, index);
  let area = 0;
  let sum = 0;
  for (let at = 0; at < layer.length; at += 1) {
    if (layer[at] !== value) continue;
    area += 1;
    if (probabilities) sum += probabilities[at];
  }
  return { area, share: area / layer.length, confidence: area && probabilities ? sum / area / 255 : null };
}

/** Decode {type, data} to ImageData. */
export async function decodePicture({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** Decode a grey picture to a Uint8Array. */
export async function decodeGrey(picture) {
  const { data } = await decodePicture(picture);
  return Uint8Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
}

/** Decode 256 * red + green to a Uint16Array. */
export async function decodeValues(picture) {
  const { data } = await decodePicture(picture);
  return Uint16Array.from({ length: data.length / 4 }, (_, at) => 256 * data[4 * at] + data[4 * at + 1]);
}

/** Draw shown classes [{layer, value, colour: [r, g, b], numbers, chosen}] within a box [left, top, right, bottom]: areas
 *  on `fill`, blended where they overlap, and edges on `line`; those of objects by `numbers`, the chosen one's white. */
export function paint(fill, line, shown, box) {
  const { width, height } = fill;
  const [left, top, right, bottom] = box ? grown(box, width, height) : [0, 0, width, height];
  const wide = right - left;
  const areas = new ImageData(wide, bottom - top);
  const edges = new ImageData(wide, bottom - top);
  const count = new Uint8Array(wide * (bottom - top));
  for (const { layer, value, colour, numbers = layer, chosen } of shown) {
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        const at = row * width + column;
        if (layer[at] !== value) continue;
        const cell = (row - top) * wide + column - left;
        count[cell] += 1;
        for (let part = 0; part < 3; part += 1) {
          areas.data[4 * cell + part] += (colour[part] - areas.data[4 * cell + part]) / count[cell];
        }
        areas.data[4 * cell + 3] = 255;
        const one = numbers[at];
        const inner = column > 0 && column < width - 1 && numbers[at - 1] === one && numbers[at + 1] === one
          && numbers[at - width] === one && numbers[at + width] === one;
        if (!inner) edges.data.set([...(chosen && one === chosen ? [255, 255, 255] : colour), 255], 4 * cell);
      }
    }
  }
  fill.getContext("2d").putImageData(areas, left, top);
  line.getContext("2d").putImageData(edges, left, top);
}

/** Draw values (0 to 255) as magenta, the more opaque the higher they are; null clears. */
export function paintMap(canvas, values) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!values) return;
  const pixels = new ImageData(canvas.width, canvas.height);
  values.forEach((value, at) => pixels.data.set([255, 0, 255, value], 4 * at));
  context.putImageData(pixels, 0, 0);
}

function grown([left, top, right, bottom], width, height) {
  return [Math.max(0, left - 1), Math.max(0, top - 1), Math.min(width, right + 1), Math.min(height, bottom + 1)];
}

/** Convert "#rrggbb" to [r, g, b]. */
export function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
