// Keeps the page's settings in the address, so that a link shows the same view: #opacity=30&threshold.liver=0.7&hide=spleen

const DEFAULTS = { opacity: 45, compare: null, window: null, form: null, map: null, thresholds: {}, hidden: [] };

export function readSettings() {
  const settings = structuredClone(DEFAULTS);
  const number = (text, low, high) => (Number(text) >= low && Number(text) <= high ? Number(text) : null);
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "opacity") settings.opacity = number(text, 0, 100) ?? DEFAULTS.opacity;
    else if (name === "compare") settings.compare = number(text, 0, 100);
    else if (name === "form") settings.form = text;
    else if (name === "map" && ["uncertainty", "spread"].includes(text)) settings.map = text;
    else if (name === "hide") settings.hidden.push(text);
    else if (name === "window") {
      const [low, high] = text.split(",").map(Number);
      if (low < high) settings.window = [low, high];
    } else if (name.startsWith("threshold.")) {
      const value = number(text, 0.01, 0.99);
      if (value !== null) settings.thresholds[name.slice(10)] = value;
    }
  }
  return settings;
}

export function writeSettings({ opacity, compare, window, form, map, thresholds, hidden }) {
  const pairs = [
    ...(opacity === DEFAULTS.opacity ? [] : [["opacity", opacity]]),
    ...(compare === null ? [] : [["compare", Math.round(compare)]]),
    ...(window ? [["window", window.map((value) => Math.round(value)).join(",")]] : []),
    ...(form ? [["form", form]] : []),
    ...(map ? [["map", map]] : []),
    ...Object.entries(thresholds).map(([name, value]) => [`threshold.${name}`, value]),
    ...hidden.map((name) => ["hide", name]),
  ];
  history.replaceState(null, "", pairs.length ? `#${new URLSearchParams(pairs)}` : location.pathname);
}
