// Correct the masks of one image: tools that paint on its layers, undo and redo.

import { layerOf } from "./masks.js";
import { polygon, region, snapped, stroke } from "./shapes.js";
import { follow } from "./viewer.js";

const MAX_UNDO = 200; // changes that can be undone

export class Editor {
  /** `redraw(box)` is called while a tool paints, `changed()` when a change is complete, `chosen()` when the class or
   *  object is another; `seen(index)` tells whether a class is shown. */
  constructor({ viewer, cursor, draft, redraw, changed, chosen, seen }) {
    Object.assign(this, { viewer, cursor, draft, redraw, changed, chosen, seen, item: null, index: 0, tool: "brush", size: 8, active: false });
    this.object = 0; // the chosen object's number, if the model segments objects; 0: a new one
    this.points = [];
    this.at = [0, 0];
    const { scroller } = viewer;
    viewer.sheet.addEventListener("pointerdown", (event) => this.#press(event));
    scroller.addEventListener("pointermove", (event) => this.#aim(viewer.point(event)));
    scroller.addEventListener("pointerleave", () => this.cursor.setAttribute("r", 0));
    scroller.addEventListener("dblclick", () => this.close());
  }

  get drawing() {
    return this.active && this.tool !== "move" && Boolean(this.item);
  }

  open(item) {
    this.item = item;
    item.undo ??= [];
    item.redo ??= [];
    this.#drop();
    this.choose(this.index, 0);
  }

  choose(index, object) {
    Object.assign(this, { index, object });
    this.chosen();
  }

  use(tool) {
    this.tool = tool;
    this.#drop();
    this.#aim(this.at);
  }

  resize(size) {
    this.size = Math.max(1, Math.min(100, size));
    this.#aim(this.at);
  }

  undo() {
    this.#swap(this.item.undo, this.item.redo, "before");
  }

  redo() {
    this.#swap(this.item.redo, this.item.undo, "after");
  }

  /** Close the polygon, and set the class there, or with `erase` clear it. */
  close(erase = false) {
    const { points } = this;
    this.#drop();
    if (points.length > 2) this.#change((size, put) => polygon(size, points, put), erase);
  }

  /** Handle a key; returns whether it was one of the editor's. */
  key(event) {
    if (!this.drawing) return false;
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const limits = [this.viewer.width, this.viewer.height];
    if (event.key in moves && event.target === this.viewer.scroller) {
      this.#aim(this.at.map((value, axis) => Math.max(0.5, Math.min(limits[axis] - 0.5, Math.floor(value) + 0.5 + moves[event.key][axis]))));
    } else if (event.key === " " && event.target === this.viewer.scroller) this.#apply(this.at, event.shiftKey);
    else if (event.key === "Enter" && this.points.length) this.close(event.shiftKey);
    else if (event.key === "Escape" && this.points.length) this.#drop();
    else if (event.key === "Backspace" && this.points.length) {
      this.points.pop();
      this.#sketch();
    } else return false;
    return true;
  }

  #press(event) {
    if (!this.drawing || event.button !== 0 || event.target.id === "divider") return;
    event.preventDefault(); // else the viewer pans
    this.viewer.scroller.focus({ preventScroll: true });
    const start = this.viewer.point(event);
    this.at = start;
    if (["polygon", "fill", "pick"].includes(this.tool)) {
      this.#apply(start, event.shiftKey);
      return;
    }
    const erase = this.tool === "eraser";
    const change = this.#begin(erase);
    let from = snapped(start, this.size);
    const paint = (to) => {
      change.paint((size, put) => stroke(size, from, to, this.size, put));
      from = to;
    };
    paint(from);
    follow(this.viewer.sheet, event, (move) => {
      for (const one of move.getCoalescedEvents?.() ?? [move]) paint(snapped(this.viewer.point(one), this.size));
    }, () => change.end());
  }

  /** Use the tool at a point. */
  #apply(point, erase) {
    if (this.tool === "polygon") {
      const near = 8 / this.viewer.zoom;
      const [first] = this.points;
      if (this.points.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) < near) {
        this.close(erase);
        return;
      }
      this.points.push(point);
      this.#sketch();
    } else if (this.tool === "fill") {
      if (!this.#within(point)) return;
      const [layer, value] = layerOf(this.item.layers, this.index);
      if (erase && layer[this.#cell(point)] !== value) return;
      const numbers = this.item.layers.objects?.[this.index];
      if (erase && numbers) this.choose(this.index, numbers[this.#cell(point)]);
      this.#change((size, put) => region(numbers ?? layer, size, point, put), erase);
      if (erase && numbers) this.choose(this.index, 0);
    } else if (this.tool === "pick") {
      if (this.#within(point)) this.#pick(this.#cell(point));
    } else {
      const centre = snapped(point, this.size);
      this.#change((size, put) => stroke(size, centre, centre, this.size, put), this.tool === "eraser");
    }
  }

  /** Choose the object at a pixel that is seen, of the chosen class if there are several; without one, a new one. */
  #pick(cell) {
    const { objects } = this.item.layers;
    const index = [this.index, ...objects.keys()].find((one) => this.seen(one) && objects[one][cell]);
    this.choose(index ?? this.index, index === undefined ? 0 : objects[index][cell]);
  }

  #within([x, y]) {
    return x >= 0 && y >= 0 && x < this.viewer.width && y < this.viewer.height;
  }

  #cell([x, y]) {
    return Math.floor(y) * this.viewer.width + Math.floor(x);
  }

  #change(shape, erase) {
    const change = this.#begin(erase);
    change.paint(shape);
    change.end();
  }

  /** A change of the chosen class: an eraser clears this class alone, the others set it. With objects, it is a change of
   *  the chosen one: what is painted moves to it, and only its pixels are erased; without one, those of any. */
  #begin(erase) {
    const { item, index } = this;
    const [layer, value] = layerOf(item.layers, index);
    const numbers = item.layers.objects?.[index];
    const object = numbers && !erase ? this.object || numbers.reduce((most, one) => Math.max(most, one), 0) + 1 : this.object;
    const parts = [layer, ...(numbers ? [numbers] : [])].map((part) => ({ part, before: part.slice() }));
    const size = [this.viewer.width, this.viewer.height];
    const whole = [...size, 0, 0];
    const put = (at) => {
      if (erase && (layer[at] !== value || (numbers && object && numbers[at] !== object))) return;
      layer[at] = erase ? 0 : value;
      if (numbers) numbers[at] = erase ? 0 : object;
    };
    return {
      paint: (shape) => {
        const cells = [];
        const box = shape(size, (at) => cells.push(at)); // a fill reads what it changes
        cells.forEach(put);
        [0, 1].forEach((side) => (whole[side] = Math.min(whole[side], box[side])));
        [2, 3].forEach((side) => (whole[side] = Math.max(whole[side], box[side])));
        this.redraw(box);
      },
      end: () => {
        const patches = parts.map(({ part, before }) => ({ layer: part, before: cut(before, size[0], whole), after: cut(part, size[0], whole) }));
        if (patches.every(({ before, after }) => before.every((one, at) => one === after[at]))) return;
        item.undo.push({ box: whole, patches });
        item.undo.splice(0, item.undo.length - MAX_UNDO);
        item.redo.length = 0;
        if (numbers && !erase) this.choose(index, object);
        this.changed();
      },
    };
  }

  #swap(from, to, which) {
    const change = from.pop();
    if (!change) return;
    to.push(change);
    const [left, top, right, bottom] = change.box;
    for (const patch of change.patches) {
      for (let row = top; row < bottom; row += 1) {
        const start = (row - top) * (right - left);
        patch.layer.set(patch[which].subarray(start, start + right - left), row * this.viewer.width + left);
      }
    }
    this.redraw(change.box);
    this.changed();
  }

  #drop() {
    this.points = [];
    this.#sketch();
  }

  #aim(point) {
    this.at = point;
    const brush = this.drawing && ["brush", "eraser"].includes(this.tool);
    const [x, y] = brush ? snapped(point, this.size) : point;
    this.cursor.setAttribute("cx", x);
    this.cursor.setAttribute("cy", y);
    this.cursor.setAttribute("r", this.drawing ? (brush ? this.size / 2 : 2 / this.viewer.zoom) : 0);
    if (this.points.length) this.#sketch();
  }

  #sketch() {
    const shown = this.points.length ? [...this.points, this.at] : [];
    this.draft.setAttribute("points", shown.map((point) => point.join(",")).join(" "));
  }
}

function cut(layer, width, [left, top, right, bottom]) {
  const part = new layer.constructor(Math.max(0, (right - left) * (bottom - top)));
  for (let row = top; row < bottom; row += 1) part.set(layer.subarray(row * width + left, row * width + right), (row - top) * (right - left));
  return part;
}
