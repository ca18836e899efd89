// Places on the page of changes: which file is being read, addresses of lines, and the keys that lead from one to the next.
"use strict";

(() => {
  if (!asynccode.changes) return;
  const { root, list, bar, load, isLoaded, isBusy, setOpen, widen } = asynccode.changes;
  const MARGIN = 12; // px between the bar and a file that one went to
  const sections = () => [...list.querySelectorAll(":scope > .changed-file")];
  const edge = () => bar.getBoundingClientRect().bottom;
  const topOf = (element) => element.getBoundingClientRect().top;

  // The file at the upper edge of the window. Sections are in order, so few of them need be looked at.
  const current = () => {
    const all = sections(), at = edge() + MARGIN + 2;
    let low = 0, high = all.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all[middle].getBoundingClientRect().bottom > at) high = middle;
      else low = middle + 1;
    }
    return all[low];
  };

  const tree = document.getElementById("tree-list");
  let isLooking = false;
  const follow = () => {
    isLooking = false;
    const section = current(), link = section && tree.querySelector(`[data-file="${section.id}"]`);
    const marked = tree.querySelector("[aria-current]");
    if (marked === link) return;
    marked?.removeAttribute("aria-current");
    if (!link) return;
    link.ariaCurrent = "location";
    const view = tree.getBoundingClientRect(), place = link.getBoundingClientRect();
    if (place.top < view.top || place.bottom > view.bottom) tree.scrollTop += place.top - view.top - view.height / 2;
  };
  addEventListener("scroll", () => {
    if (isLooking) return;
    isLooking = true;
    requestAnimationFrame(follow);
  }, { passive: true });
  follow();

  // The way in which changes are shown is changed where one reads.
  for (const form of document.querySelectorAll("form.look, form.segments")) {
    form.addEventListener("submit", () => { form.elements.at.value = scrollY > 0 && current() ? current().id : ""; });
  }

  // --- addresses -----------------------------------------------------------------------------------------------------------
  const ADDRESS = /^#(f[0-9a-f]{8})(?:-([LR])(\d+)(?:-([LR])(\d+))?)?$/;
  const cell = (section, side, number) => document.getElementById(`${section.id}-${side}${number}`);
  // Scroll by `place`, and again while what is around is fetched and gets its true height, however long that takes; until somebody
  // scrolls.
  const SETTLES_MS = 1000;
  let held = 0;
  let settling = null; // what is being held, until the frame after somebody scrolled
  const hold = (element, place) => {
    held += 1;
    settling = element;
    const mine = held, until = performance.now() + SETTLES_MS;
    let still = 0; // frames in which nothing moved
    const again = () => {
      if (mine !== held || (performance.now() > until && still > 2 && !isBusy()) || !element.isConnected) {
        if (settling === element) settling = null;
        return;
      }
      const before = scrollY;
      place();
      still = scrollY === before ? still + 1 : 0;
      requestAnimationFrame(again);
    };
    again();
  };
  for (const kind of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(kind, () => { held += 1; }, { capture: true, passive: true });
  // The rows beside one, across the parts of the table.
  const after = (row) => row.nextElementSibling ?? row.parentElement.nextElementSibling?.firstElementChild;
  const before = (row) => row.previousElementSibling ?? row.parentElement.previousElementSibling?.lastElementChild;
  const clear = () => { for (const row of list.querySelectorAll("tr[data-chosen]")) delete row.dataset.chosen; };

  // The cell of a line; where it is in a gap, that is opened first.
  const reach = async (section, side, number) => {
    const found = cell(section, side, number);
    if (found) return found;
    const name = side === "L" ? "old" : "new";
    for (const row of section.querySelectorAll("tr.g")) {
      const asked = new URL(row.querySelector("a").href).searchParams;
      const first = Number(asked.get(name));
      if (number >= first && number < first + Number(asked.get("lines"))) await widen(row);
    }
    return cell(section, side, number);
  };
  const choose = (first, last = first) => {
    clear();
    let [from, to] = [first.closest("tr"), last.closest("tr")];
    if (from.compareDocumentPosition(to) & Node.DOCUMENT_POSITION_PRECEDING) [from, to] = [to, from];
    for (let row = from; row; row = row === to ? null : after(row)) if (!row.matches(".g, .said")) row.dataset.chosen = "";
  };
  const visit = async () => {
    const found = ADDRESS.exec(location.hash);
    if (!found) return;
    const [, anchor, side, number, toSide, toNumber] = found;
    const section = document.getElementById(anchor);
    const query = new URLSearchParams(location.search);
    if (!section) { // on another page of files
      if (query.get("file") === anchor) return;
      query.set("file", anchor);
      location.search = query; // which keeps the fragment
      return;
    }
    if (section.hasAttribute("data-closed")) setOpen(section, true);
    if (!side) {
      hold(section, () => section.scrollIntoView());
      return;
    }
    await load(section);
    const first = await reach(section, side, Number(number));
    if (!first) return;
    choose(first, toSide ? await reach(section, toSide, Number(toNumber)) ?? first : first);
    hold(first, () => first.scrollIntoView({ block: "center" }));
  };
  addEventListener("hashchange", visit);

  list.addEventListener("click", (event) => {
    const target = event.target.closest("td[id]");
    if (!target) return;
    const section = target.closest(".changed-file");
    const [, anchor, side, number] = ADDRESS.exec(location.hash) ?? [];
    const begun = event.shiftKey && anchor === section.id && side ? cell(section, side, number) : null;
    const name = target.id.slice(section.id.length + 1);
    history.replaceState(null, "", begun ? `#${begun.id}-${name}` : `#${target.id}`);
    choose(begun ?? target, target);
    getSelection().removeAllRanges();
  });

  // Links to what is on this page already do not load it anew.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#found a, #tree a, .comment a.where");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !document.getElementById(link.hash.slice(1, 10))) return;
    event.preventDefault();
    document.activeElement.blur(); // what was found closes
    if (location.hash === link.hash) visit();
    else location.hash = link.hash;
  });

  // --- keys ----------------------------------------------------------------------------------------------------------------
  const go = (element, below = 0) => {
    hold(element, () => scrollBy(0, topOf(element) - bar.offsetHeight - MARGIN - below)); // below where the bar will be
  };
  // Somebody who presses a key again before the place is right means the one after it.
  const toFile = (by) => {
    const isOnItsWay = settling?.matches(".changed-file");
    const all = sections(), here = isOnItsWay ? settling : current(), at = all.indexOf(here);
    const offset = isOnItsWay ? 0 : topOf(here) - edge() - MARGIN;
    const to = by > 0 ? all[offset > 2 ? at : at + 1] : all[offset < -2 ? at : at - 1];
    if (to) go(to);
    else document.querySelector(by > 0 ? ".file-sections a[rel=next]" : ".file-sections a[rel=prev]")?.click();
  };
  // Changes are runs of rows that differ.
  const CHANGED = "tr:is(.a, .d, .c)";
  const above = (row) => {
    const one = before(row);
    return one?.matches(".said") ? above(one) : one;
  };
  const changesOf = (part) => [...part.querySelectorAll(CHANGED)].filter((row) => !above(row)?.matches(CHANGED));
  // Where a part is, is known without a place for each of its rows: only parts that reach there are looked into.
  const nextChange = (section, by, at) => {
    const parts = [...section.querySelectorAll("tbody")];
    for (const part of by > 0 ? parts : parts.reverse()) {
      const { top, bottom } = part.getBoundingClientRect();
      if (by > 0 ? bottom <= at : top >= at) continue;
      const rows = changesOf(part);
      const to = by > 0 ? rows.find((row) => topOf(row) > at + 2) : rows.findLast((row) => topOf(row) < at - 2);
      if (to) return to;
    }
    return null;
  };
  const HEAD = 48; // px that a file's own head takes
  const toChange = async (by) => {
    const row = settling?.closest("tr");
    const all = sections(), at = row ? topOf(row) : edge() + HEAD + MARGIN;
    for (let place = all.indexOf(row?.closest(".changed-file") ?? current()); all[place]; place += by) {
      const section = all[place];
      if (section.hasAttribute("data-closed")) continue;
      if (!isLoaded(section) && section.querySelector("a.load[data-soon]")) await load(section);
      const to = nextChange(section, by, at);
      if (!to) continue;
      go(to, HEAD);
      return;
    }
  };
  const KEYS = {
    j: () => toFile(1),
    k: () => toFile(-1),
    n: () => toChange(1),
    p: () => toChange(-1),
    o: () => current().querySelector(".toggle").click(),
    v: () => current().querySelector("[name=viewed]").click(),
    s: () => document.querySelector("[data-key=x]").click(),
  };
  document.addEventListener("shortcut", (event) => {
    if (!Object.hasOwn(KEYS, event.detail) || !sections().length) return;
    event.preventDefault();
    KEYS[event.detail]();
  });

  Object.assign(asynccode.changes, { current, edge, topOf, hold, choose, reach });
  if (ADDRESS.test(location.hash)) visit();
  root.dataset.ready = "";
})();
