// Write files in the browser: PNG of 8 or 16 bits, and ZIP without compression; no library has to be loaded.

const CRC = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = ~0;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const text = (words) => new TextEncoder().encode(words);
const big = (value) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
const little = (value, bytes) => Uint8Array.from({ length: bytes }, (_, at) => value >>> (8 * at));

/** A PNG of values (Uint8Array or Uint16Array, row by row), grey or with a palette [[r, g, b], ...]: canvases would write RGBA. */
export async function png(values, width, height, palette) {
  const wide = values.BYTES_PER_ELEMENT * width;
  const bytes = wide === width ? values : Uint8Array.from({ length: wide * height }, (_, at) => (at % 2 ? values[at >> 1] & 255 : values[at >> 1] >> 8));
  const rows = new Uint8Array((wide + 1) * height); // each row begins with its filter, 0
  for (let row = 0; row < height; row += 1) rows.set(bytes.subarray(row * wide, (row + 1) * wide), row * (wide + 1) + 1);
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
  const chunk = (kind, data) => {
    const body = joined([text(kind), data]);
    return joined([big(data.length), body, big(crc32(body))]);
  };
  return joined([
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", joined([big(width), big(height), Uint8Array.of(8 * values.BYTES_PER_ELEMENT, palette ? 3 : 0, 0, 0, 0)])),
    ...(palette ? [chunk("PLTE", Uint8Array.from(palette.flat()))] : []),
    chunk("IDAT", new Uint8Array(await packed.arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ]);
}

/** A ZIP of files [[name, bytes or text], ...]. */
export function zip(files) {
  const [parts, directory] = [[], []];
  let start = 0;
  for (const [name, content] of files) {
    const [called, data] = [text(name), typeof content === "string" ? text(content) : content];
    // version 2.0, names in UTF-8, stored, 1 January 2000, checksum, sizes, length of the name
    const facts = joined([little(20, 2), little(0x800, 2), little(0, 4), little(0x2821, 2), little(crc32(data), 4),
      little(data.length, 4), little(data.length, 4), little(called.length, 2), little(0, 2)]);
    const entry = [text("PK\x03\x04"), facts, called, data];
    directory.push(joined([text("PK\x01\x02"), little(20, 2), facts, little(0, 10), little(start, 4), called]));
    parts.push(...entry);
    start += entry.reduce((sum, part) => sum + part.length, 0);
  }
  const index = joined(directory);
  const end = joined([text("PK\x05\x06"), little(0, 4), little(files.length, 2), little(files.length, 2),
    little(index.length, 4), little(start, 4), little(0, 2)]);
  return joined([...parts, index, end]);
}
