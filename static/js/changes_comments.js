// Comments on lines of changes: lines are chosen by their numbers, and what is said of them stands below them.
"use strict";

(() => {
  const page = asynccode.changes;
  const template = document.getElementById("comment-form");
  if (!page || !template) return;
  const { list, load, isLoaded, setOpen, parse, current, edge, topOf, hold, choose, reach } = page;
  const SIDES = { L: "old", R: "new" };
  const announce = (text) => { document.getElementById("announcer").textContent = text; };
  const sectionOf = (element) => element.closest(".changed-file");
  const blockOf = (section) => section.querySelector(":scope > .comments");

  // --- places --------------------------------------------------------------------------------------------------------------
  // What has a line on the page stands below it, all else at its file's head; so does all of a file that is closed.
  const rowBelow = (row) => {
    if (row.nextElementSibling?.matches(".said")) return row.nextElementSibling.cells[0];
    const made = document.createElement("tr");
    made.className = "said";
    row.after(made);
    const cell = made.insertCell();
    cell.colSpan = 4;
    return cell;
  };
  const place = (section) => {
    if (section.hasAttribute("data-closed")) return;
    for (const item of [...blockOf(section).querySelectorAll(":scope > [data-at]")]) {
      const cell = item.dataset.at && document.getElementById(item.dataset.at);
      if (cell) rowBelow(cell.parentElement).append(item);
    }
  };
  const lift = (section, from = section) => {
    for (const row of from.querySelectorAll("tr.said")) {
      blockOf(section).append(...row.cells[0].children);
      row.remove();
    }
  };
  const itemsOf = (place) => [...place.querySelectorAll(".comment")];
  const written = (item) => [...item.querySelectorAll("textarea")].filter((field) => field.value.trim() && field.value !== field.defaultValue);
  // What somebody is changing in a comment goes on in the same one of a newer page.
  const carry = (old, fresh) => {
    const [field] = written(old), into = fresh?.querySelector("textarea");
    if (!field || !into) return;
    into.value = field.value;
    into.closest("details").open = true;
  };
  const renew = (fresh) => {
    const block = document.getElementById(fresh.id);
    if (!block) return;
    const section = sectionOf(block);
    if (section) lift(section);
    for (const old of itemsOf(block)) carry(old, fresh.querySelector(`#${old.id}`));
    block.replaceChildren(...fresh.childNodes, ...block.querySelectorAll(".writing"));
    if (section) place(section);
  };
  const renewDrafts = (fresh) => {
    const old = document.getElementById("drafts"), field = old.querySelector("textarea"), into = fresh.querySelector("textarea");
    if (field && into) into.value = field.value;
    if (fresh.querySelector("details") && old.querySelector("details")?.open) fresh.querySelector("details").open = true;
    old.replaceWith(fresh);
  };

  // Lines come and go in several ways; what was said, and what is being written, is to outlast them all.
  const outlast = (removed) => {
    const section = document.getElementById(removed.id);
    for (const item of removed.querySelectorAll(".writing")) (section ? blockOf(section) : document.getElementById("other-comments")).append(item);
    if (section) for (const old of itemsOf(removed)) carry(old, document.getElementById(old.id));
  };
  const watcher = new MutationObserver((records) => {
    const touched = new Set();
    for (const { type, target, removedNodes, addedNodes } of records) {
      if (type === "attributes") {
        if (target.hasAttribute("data-closed")) lift(target);
        else touched.add(target);
        continue;
      }
      for (const node of removedNodes) {
        if (node.isConnected || node.nodeType !== Node.ELEMENT_NODE) continue;
        if (node.matches(".changed-file")) outlast(node);
        else if (node.matches(".lines-of") && target.isConnected) lift(target, node);
      }
      if (addedNodes.length && target.isConnected) touched.add(sectionOf(target));
      for (const node of addedNodes) if (node.matches?.(".changed-file")) touched.add(node);
    }
    for (const section of touched) if (section?.isConnected) place(section);
    watcher.takeRecords(); // of what was just done
  });
  for (const section of list.querySelectorAll(":scope > .changed-file")) place(section);
  watcher.observe(list, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-closed"] });

  // --- writing -------------------------------------------------------------------------------------------------------------
  const write = (section, side, start, end) => {
    const at = `${section.id}-${side}${end}`;
    let item = list.querySelector(`.writing[data-at="${at}"]`);
    if (!item) {
      item = document.createElement("div");
      item.className = "writing";
      item.dataset.at = at;
      item.append(template.content.cloneNode(true));
      const { elements } = item.querySelector("form");
      const values = { file: section.id, seen: section.dataset.seen, side: SIDES[side], start, end };
      for (const [name, value] of Object.entries(values)) elements[name].value = value;
      elements.seen.defaultValue = section.dataset.seen;
      blockOf(section).append(item);
      place(section);
    }
    section.querySelector(".lines-of").dataset.touched = ""; // they are not to be replaced by the same with more colour
    show(item.querySelector("form"));
  };
  const show = (form) => {
    for (const button of form.querySelectorAll("[data-cancel]")) button.hidden = false;
    form.elements.body.focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  };
  const stop = (item) => {
    const { at } = item.dataset, row = item.closest("tr.said");
    item.remove();
    if (row && !row.cells[0].children.length) row.remove();
    document.getElementById(at)?.closest("tr").scrollIntoView({ block: "nearest" });
  };
  list.addEventListener("click", (event) => {
    if (event.target.closest("[data-cancel]")) stop(event.target.closest(".writing"));
  });
  list.addEventListener("keydown", (event) => {
    const item = event.target.closest(".writing");
    if (event.key === "Escape" && item && !item.querySelector("textarea").value.trim()) stop(item);
  });
  addEventListener("beforeunload", (event) => {
    if ([...list.querySelectorAll(".writing, .comment")].some((item) => written(item).length)) event.preventDefault();
  });

  list.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.closest(".comments, .said")) return;
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    try {
      const response = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { "HX-Request": "true" } });
      const elsewhere = response.headers.get("HX-Redirect");
      if (elsewhere) location.assign(elsewhere); // which says why
      else if (response.ok || response.status === 422) take(form, parse(await response.text()));
      else asynccode.say("The comment could not be saved. Try again in a moment.");
    } catch (error) {
      asynccode.say("The server cannot be reached. Try again in a moment.");
      if (!(error instanceof TypeError)) throw error;
    } finally {
      form.ariaBusy = null;
    }
  });
  const take = (form, answer) => {
    const refused = answer.querySelector("form.comment-form");
    if (refused && !answer.querySelector("#drafts")) {
      form.replaceWith(refused);
      show(refused);
      return;
    }
    const writing = form.closest(".writing");
    if (writing) stop(writing);
    else for (const field of form.querySelectorAll("textarea")) field.defaultValue = field.value;
    for (const block of answer.querySelectorAll(".comments")) renew(block);
    renewDrafts(answer.getElementById("drafts"));
    announce(writing || form.matches(".comment-form") ? "The draft is saved." : "The draft is deleted.");
  };

  // --- lines are chosen ----------------------------------------------------------------------------------------------------
  const LINE = /^(f[0-9a-f]{8})-([LR])(\d+)$/;
  const partsOf = (cell) => {
    const [, anchor, side, number] = LINE.exec(cell.id);
    return { section: document.getElementById(anchor), side, number: Number(number) };
  };
  // The lines that the address names: those of its last side.
  const chosen = () => {
    const [, anchor, ...ends] = /^#(f[0-9a-f]{8})-([LR])(\d+)(?:-([LR])(\d+))?$/.exec(location.hash) ?? [];
    const section = anchor && document.getElementById(anchor);
    if (!section) return null;
    const [side, first, toSide = side, last = first] = ends;
    const numbers = toSide === side ? [Number(first), Number(last)] : [Number(last)];
    return { section, side: toSide, start: Math.min(...numbers), end: Math.max(...numbers) };
  };
  const writeAt = (cell) => {
    const { section, side, number } = partsOf(cell), lines = chosen();
    const isAmong = lines?.section === section && lines.side === side && lines.start <= number && number <= lines.end;
    if (isAmong) write(section, side, lines.start, lines.end);
    else write(section, side, number, number);
  };

  // One button for all lines: it is where the pointer is, or where a line was chosen.
  const plus = document.createElement("button");
  Object.assign(plus, { type: "button", className: "comment-plus", tabIndex: -1, title: "Comment ( c )" });
  const put = (cell) => {
    if (plus.parentElement === cell) return;
    plus.ariaLabel = `Comment on line ${partsOf(cell).number}`;
    cell.append(plus);
  };
  const numberOf = (target) => {
    const cell = target.closest(".diff td"), row = cell?.parentElement;
    if (!row || row.matches(".g, .more, .said") || !sectionOf(row).dataset.seen) return null;
    if (cell.id) return cell;
    const beside = cell.previousElementSibling;
    return row.closest(".diff.split") ? (beside?.id ? beside : null) : row.querySelector("td[id]:nth-child(2)") ?? row.querySelector("td[id]");
  };
  let drag = null;
  list.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || (!event.movementX && !event.movementY)) return; // the page moves, not the pointer
    const cell = numberOf(event.target);
    if (!cell) return;
    put(cell);
    if (!drag || !(event.buttons & 1)) return;
    const { section, side, number } = partsOf(cell);
    if (section !== drag.section || side !== drag.side || (number === drag.to && !drag.isMoved)) return;
    Object.assign(drag, { to: number, isMoved: true });
    choose(drag.cell, cell);
  }, { passive: true });
  list.addEventListener("pointerdown", (event) => {
    const cell = event.pointerType === "mouse" && event.button === 0 && !event.shiftKey && event.target.closest("td[id]");
    drag = cell ? { cell, isPlus: event.target === plus, ...partsOf(cell) } : null;
    if (drag) drag.to = drag.number;
  });
  addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (!done?.isMoved) return;
    const [start, end] = [done.number, done.to].sort((a, b) => a - b), { section, side } = done;
    const name = (number) => `${side}${number}`;
    history.replaceState(null, "", start === end ? `#${section.id}-${name(end)}` : `#${section.id}-${name(start)}-${name(end)}`);
    getSelection().removeAllRanges();
    if (done.isPlus) write(section, side, start, end);
  });
  list.addEventListener("click", (event) => {
    if (event.target === plus) {
      event.stopImmediatePropagation();
      writeAt(plus.parentElement);
      return;
    }
    const cell = event.target.closest("td[id]");
    if (cell && sectionOf(cell).dataset.seen) put(cell);
  }, { capture: true });

  document.addEventListener("shortcut", (event) => {
    if (event.detail !== "c") return;
    event.preventDefault();
    const lines = chosen(), section = lines?.section ?? current();
    if (!section?.dataset.seen || section.hasAttribute("data-closed")) return;
    if (lines) {
      write(section, lines.side, lines.start, lines.end);
      return;
    }
    const HEAD = 48; // px that a file's own head takes
    const below = [...section.querySelectorAll("tr:is(.a, .d, .c)")].find((row) => topOf(row) >= edge() + HEAD);
    const cell = below && [...below.querySelectorAll("td[id]")].at(-1);
    if (cell) writeAt(cell);
  });

  // --- the way to a comment ------------------------------------------------------------------------------------------------
  const visit = async (item) => {
    const section = sectionOf(item);
    if (section) {
      setOpen(section, true);
      const [, , side, number] = LINE.exec(item.dataset.at) ?? [];
      if (side && !isLoaded(section)) await load(section);
      if (side) await reach(section, side, Number(number));
      place(section);
    }
    const details = item.closest(".comments > details");
    if (details) details.open = true;
    hold(item, () => item.scrollIntoView({ block: "center" }));
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#drafts a[data-comment]"), item = link && document.getElementById(link.dataset.comment);
    if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    link.closest("details").open = false;
    visit(item);
  });
  const asked = location.hash.startsWith("#comment-") && document.getElementById(location.hash.slice(1));
  if (asked) visit(asked);

  Object.assign(page, { renew, renewDrafts });
})();
