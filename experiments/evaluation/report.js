// Tables sort by the column whose head is chosen: numbers by value, the best first; empty cells last.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) continue;
  const order = [...body.rows];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort by this column";
    head.classList.add("sorts");
    const sort = () => {
      const was = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const ascending = was ? was === "descending" : head.textContent.includes("↓") || column === 0;
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const value = (row) => {
        const text = (row.cells[column]?.textContent ?? "").trim();
        const number = text.match(/^[−+-]?[\d,]*\.?\d+/);
        return number ? Number(number[0].replaceAll(",", "").replace("−", "-")) : text;
      };
      const empty = (cell) => cell === "" || cell === "–" || cell === "n/a";
      const sign = ascending ? 1 : -1;
      [...order]
        .sort((left, right) => {
          const [a, b] = [value(left), value(right)];
          if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
          return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
        })
        .forEach((row) => body.append(row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
}
