// The list of tasks: choosing several, and going back to the list that one had before.
"use strict";

(() => {
  const list = document.getElementById("tasks");
  const dialog = document.getElementById("dialog");
  const boxes = () => [...list.querySelectorAll("input[name=task][type=checkbox]")];
  let last = null; // the box that was clicked before, from which Shift chooses a range

  const show = () => {
    const bar = document.getElementById("chosen");
    if (!bar) return;
    const all = boxes(), number = all.filter((box) => box.checked).length;
    const every = document.getElementById("choose-all");
    every.parentElement.hidden = false;
    every.checked = number === all.length;
    every.indeterminate = number > 0 && number < all.length;
    bar.dataset.number = number;
    const text = number ? `${number} chosen` : "";
    const count = document.getElementById("chosen-count");
    if (count.textContent !== text) count.textContent = text;
  };

  list.addEventListener("click", (event) => {
    const box = event.target;
    if (box.name !== "task" || box.type !== "checkbox") return;
    const all = boxes(), from = all.findIndex((other) => other.id === last), to = all.indexOf(box);
    if (event.shiftKey && from >= 0) {
      for (const other of all.slice(Math.min(from, to), Math.max(from, to) + 1)) other.checked = box.checked;
    }
    last = box.id;
    show();
  });
  list.addEventListener("change", (event) => {
    if (event.target.id === "choose-all") for (const box of boxes()) box.checked = event.target.checked;
    show();
  });
  list.addEventListener("reset", () => {
    const focused = document.activeElement;
    setTimeout(() => {
      show();
      if (focused?.closest(".chosen-bar")) (document.getElementById(last) ?? document.getElementById("q")).focus();
    });
  });
  document.addEventListener("htmx:afterSwap", show);

  // A confirmed question is over; what was chosen has been done.
  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, successful, xhr } = event.detail;
    if (!successful || elt.tagName !== "FORM" || xhr.getResponseHeader("HX-Retarget")) return;
    if (dialog.contains(elt)) dialog.close();
    else if (elt.id !== "chosen") return;
    for (const box of boxes()) box.checked = false;
    show();
  });

  // News that were asked for before something else was begun must not undo it; they are asked for again after it.
  let begun = 0, underWay = 0, isOwed = false;
  const asked = new WeakMap(); // how much had been begun when news were asked for
  const isNews = ({ elt, requestConfig }) => elt === list && requestConfig.triggeringEvent?.type === "news";
  const isOurs = ({ elt }) => elt.closest(".list, #dialog");
  document.addEventListener("htmx:beforeRequest", ({ detail }) => {
    if (isNews(detail)) asked.set(detail.xhr, begun);
    else if (isOurs(detail)) {
      begun += 1;
      underWay += 1;
      asked.set(detail.xhr, -1);
    }
  });
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (!isNews(detail) || asked.get(detail.xhr) === begun) return;
    detail.shouldSwap = false;
    isOwed = true;
    catchUp();
  });
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (asked.get(detail.xhr) !== -1) return;
    underWay -= 1;
    catchUp();
  });
  const catchUp = () => {
    if (!isOwed || underWay) return;
    isOwed = false;
    setTimeout(() => htmx.trigger(list, "news"));
  };

  // Back and Forward bring the list that the address names; the rest of the page stays.
  document.addEventListener("htmx:historyCacheMiss", (event) => {
    event.preventDefault();
    const text = new URL(event.detail.path, location).searchParams.get("q") ?? "";
    document.getElementById("q").value = text;
    htmx.ajax("GET", event.detail.path, { source: "#list-title", target: "#tasks", swap: "innerHTML show:none" });
  });

  show();
})();
