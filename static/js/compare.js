// One file in several runs: columns scroll together by line. What lines have in common is the number on their old side.
"use strict";

(() => {
  const columns = [...document.querySelectorAll(".side-lines")];
  for (const column of columns) {
    asynccode.gaps.prepare(column);
    asynccode.gaps.listen(column, () => measure());
  }

  // Of each column the old line numbers in their order, and where their rows begin.
  const places = new Map();
  const measure = () => {
    for (const column of columns) {
      const top = column.getBoundingClientRect().top - column.scrollTop;
      const cells = column.querySelectorAll("td[id*='-L']");
      places.set(column, [...cells].map((cell) => [Number(cell.textContent), cell.parentElement.getBoundingClientRect().top - top]));
    }
  };
  // The last entry whose value at `key` is not above `value`; -1 for none.
  const last = (rows, key, value) => {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle][key] <= value) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  };
  // A height in one column as a line with a fraction, and back: between two lines, what a run added has its share of the way.
  const convert = (rows, from, to, value) => {
    if (!rows.length) return 0;
    const at = last(rows, from, value);
    if (at < 0) return rows[0][to] * Math.min(1, value / (rows[0][from] || 1));
    const next = rows[at + 1];
    if (!next) return rows[at][to] + (to === 1 ? (value - rows[at][from]) * 20 : (value - rows[at][from]) / 20);
    return rows[at][to] + (next[to] - rows[at][to]) * (value - rows[at][from]) / (next[from] - rows[at][from]);
  };

  // Only the column that somebody scrolls leads; what follows scrolls too, and must not lead back.
  let leader = columns[0], isAsked = false;
  const lead = (event) => { leader = event.currentTarget; };
  const follow = () => {
    isAsked = false;
    const line = convert(places.get(leader), 1, 0, leader.scrollTop);
    for (const column of columns) {
      if (column !== leader) column.scrollTop = convert(places.get(column), 0, 1, line);
    }
  };
  for (const column of columns) {
    for (const name of ["pointerenter", "pointerdown", "wheel", "touchstart", "focus", "keydown"]) column.addEventListener(name, lead, { passive: true });
    column.addEventListener("scroll", () => {
      if (column !== leader || isAsked) return;
      isAsked = true;
      requestAnimationFrame(follow);
    }, { passive: true });
  }
  addEventListener("resize", measure);
  document.fonts.ready.then(() => {
    measure();
    // Begin at the first change of the column that has one.
    const first = columns.map((column) => [column, column.querySelector("tr.a, tr.d, tr.c")]).find(([, row]) => row);
    if (!first) return;
    [leader] = first;
    leader.scrollTop = first[1].getBoundingClientRect().top - leader.getBoundingClientRect().top - 80;
    follow();
  });
})();
