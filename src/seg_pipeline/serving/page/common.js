// Shared by all parts of the page: its state, and helpers for elements.

import { readSettings } from "./link.js";

export const state = {
  model: null,
  rows: [], // one per class: elements, colour, threshold
  current: null, // the shown item
  hidden: false, // all masks
  chosen: [0, 0], // class and object that tools change
  settings: readSettings(),
};

export const byId = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en");
export const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
export const percent = (share) => `${(100 * share).toFixed(share && share < 0.0995 ? 2 : 1)} %`;

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function show(id) {
  for (const one of ["drop", "busy", "view"]) byId(one).hidden = one !== id;
  byId("tools").hidden = id !== "view";
}

export function showStatus(text) {
  byId("status").textContent = text;
}

export function showProblem(title = "", text = "") {
  byId("problem").hidden = !title;
  byId("problem").firstElementChild.textContent = title;
  byId("problem").lastElementChild.textContent = text;
}
