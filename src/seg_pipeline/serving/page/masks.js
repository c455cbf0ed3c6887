// Decode and draw masks: Uint8Array, one byte per pixel, row by row.

/** Decode run lengths "start length start length ...", counted from 1, to a Uint8Array of 0 and 1. */
export function decodeRuns(text, pixels) {
  const mask = new Uint8Array(pixels);
  const runs = text ? text.split(" ") : [];
  for (let at = 0; at < runs.length; at += 2) {
    const start = runs[at] - 1;
    mask.fill(1, start, start + Number(runs[at + 1]));
  }
  return mask;
}

/** Threshold (0 to 1) probabilities (0 to 255): returns a Uint8Array of 0 and 1. */
export function above(probabilities, threshold) {
  const level = threshold * 255;
  return Uint8Array.from(probabilities, (value) => value > level);
}

/** Area, share of the image, and mean probability inside a mask (null if it is empty). */
export function measure(mask, probabilities) {
  let area = 0;
  let sum = 0;
  for (let at = 0; at < mask.length; at += 1) {
    if (mask[at]) {
      area += 1;
      sum += probabilities[at];
    }
  }
  return { area, share: area / mask.length, confidence: area ? sum / area / 255 : null };
}

/** Decode {type, data} to an ImageBitmap without colour conversion. */
export function decodePicture({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none" });
}

/** Decode a grey picture to a Uint8Array. */
export async function decodeGrey(picture) {
  const bitmap = await decodePicture(picture);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
}

/** Draw layers [{mask, colour: [r, g, b]}]: areas on `fill`, blended where they overlap, and edges on `line`. */
export function paint(fill, line, layers) {
  const { width, height } = fill;
  const areas = new ImageData(width, height);
  const edges = new ImageData(width, height);
  const count = new Uint8Array(width * height);
  for (const { mask, colour } of layers) {
    for (let at = 0; at < mask.length; at += 1) {
      if (!mask[at]) continue;
      count[at] += 1;
      const pixel = 4 * at;
      const column = at % width;
      for (let part = 0; part < 3; part += 1) {
        areas.data[pixel + part] += (colour[part] - areas.data[pixel + part]) / count[at];
      }
      areas.data[pixel + 3] = 255;
      const inner = column > 0 && column < width - 1 && mask[at - 1] && mask[at + 1] && mask[at - width] && mask[at + width];
      if (!inner) edges.data.set([...colour, 255], pixel);
    }
  }
  fill.getContext("2d").putImageData(areas, 0, 0);
  line.getContext("2d").putImageData(edges, 0, 0);
}

/** Convert "#rrggbb" to [r, g, b]. */
export function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
