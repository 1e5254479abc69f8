"use strict";
(() => {
  const table = document.getElementById("samples");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], search = document.getElementById("search");
  const found = document.getElementById("found"), text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => text.get(row).includes(word));
    found.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  });
  const value = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim().toLowerCase();
  const compare = (one, other) => {
    const apart = Number(one) - Number(other);
    return Number.isNaN(apart) ? (one < other ? -1 : one > other ? 1 : 0) : apart;
  };
  [...table.tHead.rows[0].cells].forEach((head, at) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const known = rows.filter((row) => value(row, at) !== ""), none = rows.filter((row) => value(row, at) === "");
    known.sort((a, b) => (down ? -1 : 1) * compare(value(a, at), value(b, at)));
    body.append(...known, ...none);
  }));
})();
