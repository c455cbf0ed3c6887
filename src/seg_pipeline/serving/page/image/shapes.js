// What tools paint, on a layer of an image of a size [width, height]; `put(at)` is called for each pixel of the shape.
// Points are [x, y] in pixels from the top left corner: the centre of the first pixel is [0.5, 0.5].

/** Where a brush of this diameter lies: its centre at a pixel's, or at a corner if the diameter is even. */
export function snapped([x, y], diameter) {
  return diameter % 2 ? [Math.floor(x) + 0.5, Math.floor(y) + 0.5] : [Math.round(x), Math.round(y)];
}

/** Pixels whose centre is within half the diameter of the line between two points. */
export function stroke([width, height], [fromX, fromY], [toX, toY], diameter, put) {
  const radius = diameter / 2;
  const [dx, dy] = [toX - fromX, toY - fromY];
  const square = dx * dx + dy * dy || 1;
  const box = clipped([Math.min(fromX, toX) - radius, Math.min(fromY, toY) - radius,
    Math.max(fromX, toX) + radius, Math.max(fromY, toY) + radius], width, height);
  for (let row = box[1]; row < box[3]; row += 1) {
    for (let column = box[0]; column < box[2]; column += 1) {
      const [x, y] = [column + 0.5 - fromX, row + 0.5 - fromY];
      const along = Math.max(0, Math.min(1, (x * dx + y * dy) / square));
      if ((x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius * radius + 1e-9) put(row * width + column);
    }
  }
  return box;
}

/** Pixels whose centre lies inside a polygon, by the even-odd rule. */
export function polygon([width, height], points, put) {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const box = clipped([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], width, height);
  for (let row = box[1]; row < box[3]; row += 1) {
    const y = row + 0.5;
    const crossings = points.flatMap(([x1, y1], index) => {
      const [x2, y2] = points[(index + 1) % points.length];
      return (y1 <= y) === (y2 <= y) ? [] : [x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)];
    }).sort((a, b) => a - b);
    for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
      const end = Math.min(width, Math.ceil(crossings[pair + 1] - 0.5));
      for (let column = Math.max(0, Math.ceil(crossings[pair] - 0.5)); column < end; column += 1) put(row * width + column);
    }
  }
  return box;
}

/** The connected pixels (4 neighbours) that have the value of the one at a point. */
export function region(layer, [width, height], [x, y], put) {
  const start = Math.floor(y) * width + Math.floor(x);
  const value = layer[start];
  const seen = new Uint8Array(layer.length);
  const stack = [start];
  const box = [width, height, 0, 0];
  seen[start] = 1;
  while (stack.length) {
    const at = stack.pop();
    const column = at % width;
    const row = (at - column) / width;
    box[0] = Math.min(box[0], column);
    box[1] = Math.min(box[1], row);
    box[2] = Math.max(box[2], column + 1);
    box[3] = Math.max(box[3], row + 1);
    put(at);
    for (const [next, there] of [[at - 1, column > 0], [at + 1, column < width - 1], [at - width, row > 0], [at + width, row < height - 1]]) {
      if (there && !seen[next] && layer[next] === value) {
        seen[next] = 1;
        stack.push(next);
      }
    }
  }
  return box;
}

function clipped([left, top, right, bottom], width, height) {
  return [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(width, Math.ceil(right)), Math.min(height, Math.ceil(bottom))];
}

/** Connected regions of a class (4 neighbours), each {area, box, rings}; those of another number are others. Polygons along the pixels' edges, exact to the pixel,
 *  the outer one first, then its holes; points are whole numbers. */
export function objects(layer, value, [width, height], numbers = layer) {
  const labels = new Int32Array(layer.length);
  const found = [];
  for (let at = 0; at < layer.length; at += 1) {
    if (layer[at] !== value || labels[at]) continue;
    const label = found.length + 1;
    const pixels = [];
    const box = region(numbers, [width, height], [at % width, Math.floor(at / width)], (one) => {
      labels[one] = label;
      pixels.push(one);
    });
    found.push({ area: pixels.length, box, rings: outlines(labels, label, pixels, width, height) });
  }
  return found;
}

const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // right, down, left, up: the object lies to the right of each step

function outlines(labels, label, pixels, width, height) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && labels[y * width + x] === label;
  const edges = new Map(); // from a corner, as a number: directions of the steps that leave it
  const leave = (x, y, way) => {
    const key = y * (width + 1) + x;
    edges.set(key, [...(edges.get(key) ?? []), way]);
  };
  for (const at of pixels) {
    const x = at % width;
    const y = (at - x) / width;
    if (!inside(x, y - 1)) leave(x, y, 0);
    if (!inside(x + 1, y)) leave(x + 1, y, 1);
    if (!inside(x, y + 1)) leave(x + 1, y + 1, 2);
    if (!inside(x - 1, y)) leave(x, y + 1, 3);
  }
  const rings = [];
  for (const key of edges.keys()) {
    while (edges.get(key).length) rings.push(ring(edges, key, width + 1));
  }
  return rings.sort((a, b) => turned(b) - turned(a)); // the outer one turns clockwise, holes the other way
}

function ring(edges, key, stride) {
  const points = [];
  let way = null;
  for (let corner = key; edges.get(corner).length;) {
    const ways = edges.get(corner);
    // where two parts touch at a corner, turn right: the parts stay apart
    const next = way === null || !ways.includes((way + 1) % 4) ? ways[0] : (way + 1) % 4;
    ways.splice(ways.indexOf(next), 1);
    if (next !== way) points.push([corner % stride, Math.floor(corner / stride)]);
    way = next;
    corner += STEPS[way][0] + STEPS[way][1] * stride;
  }
  return points;
}

function turned(points) {
  return points.reduce((sum, [x, y], index) => {
    const [nextX, nextY] = points[(index + 1) % points.length];
    return sum + x * nextY - nextX * y;
  }, 0);
}
