// Draws a figure's data (charts.py) as an SVG with readable values, in the page's colours; it replaces the static figure.

const SIZE = { width: 340, height: 240, left: 50, right: 12, top: 10, bottom: 38 };

const NAMESPACE = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

function shape(name, attributes, ...children) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function roundNumbers(low, high, log) {
  if (!log) {
    const step = [1, 2, 5, 10].map((one) => one * 10 ** Math.floor(Math.log10((high - low) / 4))).find((one) => (high - low) / one <= 5);
    return Array.from({ length: 7 }, (_, index) => (Math.ceil(low / step - 1e-9) + index) * step).filter((one) => one <= high + 1e-9);
  }
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) found.push(...[1, 2, 3, 5, 7].map((one) => one * 10 ** power));
  const inside = found.filter((one) => one >= low && one <= high), powers = inside.filter((one) => Number.isInteger(Math.log10(one)));
  return powers.length > 2 ? powers : inside;
}

const written = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });

function axisOf(values, { log, low, high }, from, to) {
  let first = low ?? Math.min(...values), last = high ?? Math.max(...values);
  if (first === last) [first, last] = log ? [first / 2, last * 2] : [first - 1, last + 1];
  const place = (value) => (log ? Math.log(value / first) / Math.log(last / first) : (value - first) / (last - first));
  return { at: (value) => from + place(value) * (to - from), ticks: roundNumbers(first, last, log) };
}

function panel(spec) {
  const { width, height, left, right, top, bottom } = SIZE, every = spec.series.flatMap((one) => one.points);
  const x = axisOf(every.map((one) => one[0]), spec.x, left + 6, width - right - 6), y = axisOf(every.map((one) => one[1]), spec.y, height - bottom, top);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img", "aria-label": `${spec.title}: ${spec.y.label} against ${spec.x.label}` });
  for (const tick of x.ticks) svg.append(shape("text", { x: x.at(tick), y: height - bottom + 15, "text-anchor": "middle" }, written(tick)));
  for (const tick of y.ticks) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y.at(tick), y2: y.at(tick) }),
      shape("text", { x: left - 5, y: y.at(tick) + 4, "text-anchor": "end" }, written(tick)));
  }
  svg.append(shape("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, spec.x.label));
  if (spec.mark) svg.append(shape("line", { class: "mark", x1: x.at(spec.mark), x2: x.at(spec.mark), y1: top, y2: height - bottom }));
  const points = [];
  for (const one of spec.series) {
    const placed = one.points.map((point) => ({ series: one, point, x: x.at(point[0]), y: y.at(point[1]) }));
    if (spec.lines) svg.append(shape("polyline", { points: placed.map((at) => `${at.x},${at.y}`).join(" "), class: "series", stroke: one.colour, "stroke-dasharray": one.dash ?? "none" }));
    for (const at of placed) svg.append(shape("circle", { cx: at.x, cy: at.y, r: spec.lines ? 2 : 3.5, fill: one.colour, class: spec.lines ? "" : "point" }));
    points.push(...placed);
  }
  const cursor = shape("circle", { r: 6, class: "cursor", visibility: "hidden" }), readout = element("output", {}, "");
  svg.append(cursor);
  points.sort((one, other) => one.x - other.x);
  let chosen = -1;

  function read(index) {
    chosen = Math.min(points.length - 1, Math.max(0, index));
    const { point, x: right_, y: down } = points[chosen];
    for (const [key, value] of [["cx", right_], ["cy", down], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    const values = points.filter((one) => (spec.lines ? one.point[0] === point[0] : one === points[chosen]));
    const said = values.map((one) => `${spec.lines ? one.series.name : spec.y.label} ${written(one.point[1])}`).join(", ");
    readout.textContent = `${point[2] ? `${point[2]}: ` : ""}${spec.x.label} ${written(point[0])}, ${said}`;
    svg.classList.toggle("opens", known.has(point[2]));
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const far = (one) => Math.hypot(one.x - (event.clientX - box.left) * scale, spec.lines ? 0 : one.y - (event.clientY - box.top) * scale);
    read(points.reduce((best, one, index) => (far(one) < far(points[best]) ? index : best), 0));
  });
  function openPoint() {
    const shown = points.filter((one) => known.has(one.point[2])), id = points[chosen]?.point[2];
    const at = shown.findIndex((one) => one.point[2] === id);
    if (at >= 0) open(shown.map((one) => ({ id: one.point[2], title: one.point[2], caption: "" })), at);
  }
  svg.addEventListener("click", openPoint);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter") openPoint();
    else if (event.key === "ArrowRight" || event.key === "ArrowLeft") read(chosen + (event.key === "ArrowRight" ? 1 : -1));
    else return;
    event.preventDefault();
  });
  return element("div", { class: "panel" }, element("b", {}, spec.title), svg, readout);
}

for (const script of document.querySelectorAll("script[data-chart]")) {
  const { panels } = JSON.parse(script.textContent), names = new Map(panels.filter((one) => one.series.length > 1).flatMap((one) => one.series.map((each) => [each.name, each.colour])));
  const legend = [...names].map(([name, colour]) => {
    const swatch = element("i");
    swatch.style.background = colour;
    return element("span", {}, swatch, ` ${name}`);
  });
  script.closest("figure").querySelector("img").replaceWith(element("div", { class: "panels" }, ...panels.map(panel)), ...(legend.length > 1 ? [element("p", { class: "legend" }, ...legend)] : []));
}
