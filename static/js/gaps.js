// Gaps between changes: the equal lines in one come when they are asked for, all of them or, where it is wide, step by step.
"use strict";

(() => {
  const SOME = 20; // lines that a step shows

  const step = (name, title, icon) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", title, ariaLabel: title });
    button.dataset.step = name;
    button.append(icon);
    return button;
  };
  const prepare = (body) => {
    for (const cell of body.querySelectorAll("tr.g > td")) {
      const link = cell.querySelector("a");
      if (Number(new URL(link.href).searchParams.get("lines")) > 2 * SOME) {
        link.before(step("down", `${SOME} more lines below what is above`, "↓"), step("up", `${SOME} more lines above what is below`, "↑"));
      }
    }
  };

  // Rows come from where the link leads, or from `data-gaps` of what is around, with the numbers that the link has; `data-ids` is what
  // their ids begin with.
  const rowsAt = async (row, numbers) => {
    const { gaps, ids } = row.closest(".lines-of, .side-lines").dataset;
    const link = new URL(row.querySelector("a").href), address = gaps ? new URL(gaps, location.href) : link;
    for (const [name, value] of Object.entries({ file: link.searchParams.get("file"), ...numbers })) address.searchParams.set(name, value);
    const response = await fetch(address, { headers: { "HX-Request": "true" } });
    if (!response.ok) throw new Error(`${response.status}`);
    const template = document.createElement("template");
    template.innerHTML = await response.text();
    const rows = [...template.content.querySelectorAll("tr")];
    if (ids) for (const cell of rows.flatMap((each) => [...each.querySelectorAll("[id]")])) cell.id = cell.id.replace(/^[^-]+/, ids);
    return rows;
  };

  const widen = async (row, direction = "all") => {
    const link = row.querySelector("a");
    const address = new URL(link.href);
    const at = Object.fromEntries(["old", "new", "lines"].map((name) => [name, Number(address.searchParams.get(name))]));
    const count = direction === "all" ? at.lines : Math.min(SOME, at.lines);
    const skipped = direction === "up" ? at.lines - count : 0;
    row.closest(".lines-of, .side-lines").dataset.touched = ""; // from now on it is not taken out for the same in more colour
    const rows = await rowsAt(row, { old: at.old + skipped, new: at.new + skipped, lines: count });
    if (!row.isConnected) return;
    row[direction === "up" ? "after" : "before"](...rows);
    const left = at.lines - count;
    if (!left) {
      row.remove();
      return;
    }
    const start = direction === "up" ? 0 : count;
    for (const [name, value] of Object.entries({ old: at.old + start, new: at.new + start, lines: left })) address.searchParams.set(name, value);
    link.href = address;
    link.textContent = left === 1 ? "1 line" : `${left.toLocaleString("en")} lines`;
    if (left <= SOME) for (const button of row.querySelectorAll("button")) button.remove();
  };

  // `then` is called when lines have come.
  const listen = (list, then = () => {}) => {
    list.addEventListener("click", async (event) => {
      const asked = event.target.closest("tr.g a, tr.g button[data-step]");
      if (!asked || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      try {
        await widen(asked.closest("tr"), asked.dataset.step);
        then();
      } catch (error) {
        asynccode.say("These lines could not be fetched. Try again.");
        if (!(error instanceof TypeError) && !/^\d+$/.test(error.message)) throw error;
      }
    });
  };

  asynccode.gaps = { prepare, widen, listen };
})();
