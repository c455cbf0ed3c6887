// The images of the page: a list that is predicted in the background, one after another.

import { predict } from "./api.js";
import { Levels } from "./image/levels.js";
import { decodeGrey, decodeObjects, decodePicture, decodeRuns, decodeValues } from "./image/masks.js";

const KEPT = 256e6; // bytes of pictures and probabilities that stay decoded
const THUMB = 44;
const IMAGE = /\.(png|jpe?g|tiff?|webp|bmp|dcm)$|^[^.]+$/i;

export class Items {
  /** `updated(item)` is called when an item changes, `added()` when the list does. */
  constructor({ query, updated, added }) {
    Object.assign(this, { query, updated, added, all: [], busy: false, stems: new Map() });
  }

  /** Add files, each [file, path]; returns the new items and the number of files without an image suffix. */
  add(files) {
    const images = files.length > 1 ? files.filter(([{ name }]) => IMAGE.test(name) && !name.startsWith(".")) : files;
    const items = images.map(([file, path]) => this.#make(file, path, 1));
    this.all.push(...items);
    this.added();
    this.#work();
    return [items, files.length - images.length];
  }

  remove(item) {
    this.all.splice(this.all.indexOf(item), 1);
    item.removed = true;
    this.added();
  }

  /** Predict an item unless its answer is there, with its pictures if `shown`. */
  load(item, { shown = true } = {}) {
    const fresh = item.edited || item.key === this.query.key();
    const map = this.query.map();
    if (item.answer && fresh && (!shown || (item.view && (!map || item.view.doubts[map])))) {
      item.layers ??= this.#decoded(item);
      return Promise.resolve(item);
    }
    item.loading ??= this.#fetch(item).finally(() => {
      item.loading = null;
    });
    return item.loading;
  }

  /** Back to the prediction. */
  async revert(item) {
    Object.assign(item, { edited: false, unsaved: false, saved: false, undo: [], redo: [], layers: null });
    await this.load(item);
    this.updated(item);
  }

  /** Take the masks of an answer to the same image at other thresholds. */
  adopt(item, answer, key) {
    Object.assign(item, { answer, key });
    item.layers = this.#decoded(item);
    this.updated(item);
  }

  #make(file, path, page) {
    const name = (path || file.name || "image").replace(/\.[^./]*$/, "") || "image"; // with its folders
    const stem = page > 1 || file.paged ? `${name}_page${page}` : name;
    const number = (this.stems.get(stem) ?? 0) + 1;
    this.stems.set(stem, number);
    const thumb = Object.assign(document.createElement("canvas"), { width: THUMB, height: THUMB });
    return { file, path: path || file.name, page, thumb, stem: number > 1 ? `${stem}_${number}` : stem, state: "waiting" };
  }

  async #work() {
    if (this.busy) return;
    this.busy = true;
    for (let item; (item = this.all.find(({ state }) => state === "waiting"));) await this.load(item).catch(() => {});
    this.busy = false;
  }

  async #fetch(item) {
    const [key, map] = [this.query.key(), this.query.map()];
    item.state = "running";
    this.updated(item);
    try {
      this.query.check(item);
      const began = performance.now();
      const answer = await predict(item.file, [["page", item.page], ["include", "values"], ...this.query.pairs(true), ...(map ? [["include", map]] : [])]);
      await this.#take(item, answer);
      item.key = key;
      item.seconds = (performance.now() - began) / 1000;
      if (!item.edited) item.layers = this.#decoded(item);
      item.state = "done";
      this.#forget(item);
    } catch (error) {
      Object.assign(item, { state: "failed", problem: error.message });
      throw error;
    } finally {
      this.updated(item);
    }
    if (item.answer.image.pages > 1 && item.page === 1 && !item.expanded) this.#expand(item);
    return item;
  }

  async #take(item, answer) {
    const { height, width } = answer.image;
    const values = answer.values && (await decodeValues(answer.values));
    const picture = answer.display && (await decodePicture(answer.display));
    const maps = await Promise.all(answer.classes.map((one) => one.probabilities && decodeGrey(one.probabilities)));
    const levels = new Levels({ values, window: answer.window, picture });
    const doubts = { uncertainty: answer.uncertainty_map, spread: answer.spread_map };
    for (const [name, one] of Object.entries(doubts)) doubts[name] = one && (await decodeGrey(one));
    for (const one of answer.classes) delete one.probabilities;
    for (const name of ["display", "values", "window", "uncertainty_map", "spread_map"]) delete answer[name];
    item.answer = answer;
    item.view = { width, height, levels, maps, doubts, bytes: width * height * (7 + maps.length), used: performance.now() };
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    levels.draw(canvas, levels.auto);
    const scale = Math.max(THUMB / width, THUMB / height);
    const context = item.thumb.getContext("2d");
    context.drawImage(canvas, (THUMB - width * scale) / 2, (THUMB - height * scale) / 2, width * scale, height * scale);
  }

  #decoded({ answer }) {
    const { height, width } = answer.image;
    if (typeof answer.classes[0].objects === "string") return decodeObjects(answer.classes.map(({ objects }) => objects), height * width);
    return decodeRuns(answer.classes.map(({ rle }) => rle), answer.task === "multiclass", height * width);
  }

  /** The other pages of a file, right after its first. */
  #expand(item) {
    item.expanded = true;
    item.file.paged = true;
    item.stem = `${item.stem}_page1`;
    const others = Array.from({ length: item.answer.image.pages - 1 }, (_, at) => this.#make(item.file, item.path, at + 2));
    this.all.splice(this.all.indexOf(item) + 1, 0, ...others);
    this.added();
    this.#work();
  }

  /** Drop the oldest pictures, and the masks of their items unless they were corrected. */
  #forget(latest) {
    const there = this.all.filter(({ view }) => view).sort((a, b) => b.view.used - a.view.used);
    let bytes = 0;
    for (const item of there) {
      bytes += item.view.bytes;
      if (bytes < KEPT || item === latest || item.open) continue;
      item.view = null;
      if (!item.edited) item.layers = null;
    }
  }
}

/** Files of a drop, those of folders included, each [file, path]. */
export async function droppedFiles({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...files].map((file) => [file, file.name]);
  return (await Promise.all(entries.map((entry) => walk(entry, entry.isDirectory)))).flat();
}

/** Paths are relative to the dropped folder. */
async function walk(entry, top = false, above = "") {
  const path = top ? "" : `${above}${entry.name}`;
  if (entry.isFile) return [[await new Promise((done, failed) => entry.file(done, failed)), path]];
  const reader = entry.createReader();
  const found = [];
  for (let part; (part = await new Promise((done, failed) => reader.readEntries(done, failed))).length;) found.push(...part);
  found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(found.map((one) => walk(one, false, path && `${path}/`)))).flat();
}
