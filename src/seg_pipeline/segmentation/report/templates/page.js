"use strict";
// page.py documents the data attributes.

function makeList(list) {
  const fields = [...list.querySelectorAll("[data-filter], [data-most]")];
  const rows = [...list.querySelectorAll("[data-row]")];
  const count = list.querySelector("[data-count]");

  function fits(row, field) {
    const wanted = field.value.trim();
    if (!wanted) return true;
    if (field.dataset.most) return Number.parseFloat(row.dataset[field.dataset.most]) <= Number(wanted);
    if (!field.dataset.filter) return row.textContent.toLowerCase().includes(wanted.toLowerCase());
    return row.dataset[field.dataset.filter].split("|").includes(field.value);
  }

  function filter() {
    for (const row of rows) row.hidden = !fields.every((field) => fits(row, field));
    if (count) count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }

  function choose(name, value) {
    for (const field of fields) field.value = field.dataset.filter === name ? value : "";
    filter();
  }

  for (const field of fields) field.addEventListener("input", filter);
  if (fields.length) filter();
  makeSortable(list, rows);
  return choose;
}

function makeSortable(list, rows) {
  const heads = [...list.querySelectorAll("th[data-sort]")];
  const order = list.querySelector("[data-order]");

  function sort(head, descending) {
    const number = head.dataset.sort === "number";
    const keys = new Map(rows.map((row) => [row, keyOf(row.cells[head.cellIndex], number)]));
    const sorted = [...rows].sort((one, other) => compare(keys.get(one), keys.get(other), descending));
    if (rows.length) rows[0].parentNode.append(...sorted);
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    if (order) order.value = `${heads.indexOf(head)} ${descending}`;
  }

  for (const [index, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head, head.getAttribute("aria-sort") === "ascending"));
    for (const [descending, word] of [[false, "ascending"], [true, "descending"]]) {
      order?.append(new Option(`${button.textContent}, ${word}`, `${index} ${descending}`));
    }
  }
  if (!order) return;
  order.prepend(new Option("default", "", true, true));
  order.addEventListener("change", () => {
    const [index, descending] = order.value.split(" ");
    if (index) sort(heads[index], descending === "true");
  });
}

function keyOf(cell, number) {
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (!number) return text;
  const value = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? "" : value;
}

// Empty cells come last in either order.
function compare(one, other, descending) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const rising = typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
  return descending ? -rising : rising;
}

const lists = [...document.querySelectorAll("[data-list]")];
if (!lists.length) lists.push(document.body);
const choosers = new Map(lists.map((list) => [`#${list.id}`, makeList(list)]));
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const link of document.querySelectorAll("[data-choose]")) {
  link.addEventListener("click", () => choosers.get(link.hash)(link.dataset.of, link.dataset.choose));
}
