// The picker of prompt templates: one that is chosen is written where the cursor stands, and Ctrl+Z takes it back.
"use strict";

(() => {
  if (document.documentElement.dataset.prompts === "") return;
  document.documentElement.dataset.prompts = "";

  const insert = (field, text) => {
    field.focus();
    const isEmpty = field.selectionStart === 0 || field.value[field.selectionStart - 1] === "\n";
    const written = isEmpty ? text : `\n${text}`;
    // The one way of writing that the browser's own undo knows of.
    if (document.execCommand("insertText", false, written)) return;
    field.setRangeText(written, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("[data-templates] [data-text]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const field = link.closest("form")?.elements.prompt;
    if (!field) return;
    event.preventDefault();
    const picker = link.closest("details"); // a search on its way may take the link out of the page
    const answer = await fetch(link.dataset.text).catch(() => null);
    if (!answer?.ok || answer.redirected) {
      location.assign(link.href);
      return;
    }
    const text = await answer.text();
    picker.open = false;
    insert(field, text);
  });

  // From the search with the arrows into the list and back; Enter takes the first.
  document.addEventListener("keydown", (event) => {
    const picker = event.target.closest?.("[data-templates]");
    if (!picker || !event.target.matches(".pick-search, .pick")) return;
    const stops = [picker.querySelector(".pick-search"), ...picker.querySelectorAll(".pick")];
    const at = stops.indexOf(event.target);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      stops[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    } else if (event.key === "Enter" && at === 0) {
      event.preventDefault();
      stops[1]?.click();
    }
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("[data-templates]") && event.target.open) event.target.querySelector(".pick-search").focus();
  }, true);

  const dialog = document.getElementById("dialog");
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === dialog) event.target.closest("details")?.removeAttribute("open");
  });
  const question = dialog.ariaLabel;
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog) dialog.ariaLabel = dialog.querySelector(".template-form") ? "Save a template" : question;
  });
  document.addEventListener("template-saved", (event) => {
    dialog.close();
    document.getElementById("announcer").textContent = `“${event.detail.name}” is saved as a template.`;
  });
})();
