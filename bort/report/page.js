"use strict";
// Sorts a table by the column whose button was pressed, numbers by value and words by the alphabet; a second press turns it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
      };
      const missing = (row) => ["", "–"].includes(row.cells[column].textContent);
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        // What is missing stays at the end, whichever way the table is turned.
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        const [x, y] = [key(a), key(b)];
        if (typeof x === "number" && typeof y === "number") return direction * (x - y);
        return direction * String(x).localeCompare(String(y), "en", { numeric: true });
      });
      body.append(...rows);
    });
  });
}
// Paper cannot be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
