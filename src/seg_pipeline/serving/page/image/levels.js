// Window and level of the displayed image; the network's input is not changed by it.

/** What is shown: 16-bit values, or an 8-bit picture if there are none. */
export class Levels {
  constructor({ values, window, picture }) {
    Object.assign(this, { values, picture, bits: values ? 16 : 8 });
    this.auto = values ? window : [0, 255];
    this.whole = values ? spread(values) : [0, 255];
  }

  /** Draw on a canvas; the values `low` and `high` become black and white. */
  draw(canvas, [low, high]) {
    const { values, picture } = this;
    const context = canvas.getContext("2d");
    if (!values && low === 0 && high === 255) {
      context.putImageData(picture, 0, 0);
      return;
    }
    const table = Uint8ClampedArray.from({ length: values ? 65536 : 256 }, (_, value) => (255 * (value - low)) / Math.max(high - low, 1e-6));
    const shown = new ImageData(canvas.width, canvas.height);
    for (let at = 0; at < shown.data.length; at += 4) {
      for (let part = 0; part < 3; part += 1) shown.data[at + part] = table[values ? values[at / 4] : picture.data[at + part]];
      shown.data[at + 3] = 255;
    }
    context.putImageData(shown, 0, 0);
  }
}

/** The smallest and largest value; `Math.min(...values)` would exceed the stack. */
function spread(values) {
  let [low, high] = [values[0], values[0]];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
