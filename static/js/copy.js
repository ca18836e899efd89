// Buttons that copy what [data-copy] points at. Without scripts, it is there to be selected.
"use strict";

(() => {
  const prepare = (root) => {
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    source.select();
    try {
      await navigator.clipboard.writeText(source.value);
      button.textContent = "Copied";
    } catch { // not by http, nor where it is forbidden: it is selected already
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  prepare(document);
})();
