"use strict";
const fields = [...document.querySelectorAll("[data-filter]")];
const rows = [...document.querySelectorAll("[data-row]")];
const count = document.querySelector("[data-count]");

function fits(row, field) {
  const wanted = field.value.trim().toLowerCase();
  const found = field.dataset.filter ? row.dataset[field.dataset.filter] : row.textContent.toLowerCase();
  return !wanted || (field.dataset.filter ? found === field.value : found.includes(wanted));
}

function filter() {
  for (const row of rows) row.hidden = !fields.every((field) => fits(row, field));
  if (count) count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
}

for (const field of fields) field.addEventListener("input", filter);
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const link of document.querySelectorAll("[data-choose]")) {
  link.addEventListener("click", () => {
    for (const field of fields) field.value = field.dataset.filter === "rule" ? link.dataset.choose : "";
    filter();
  });
}
if (rows.length) filter();
