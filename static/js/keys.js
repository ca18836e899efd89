// Shortcuts of single keys. Whatever has [data-key] is reached by it: a field is focused, anything else is clicked; "g t" is g, then t.
// A page's script may take a key for itself: it is offered to it as a "shortcut" event first.
"use strict";

(() => {
  const dialog = document.getElementById("shortcuts");
  if (!dialog) return;
  const toggle = document.getElementById("shortcuts-on");
  const opener = document.getElementById("shortcuts-open");
  const SEQUENCE_MS = 1500;
  const visible = (selector) => [...document.querySelectorAll(selector)].find((element) => element.checkVisibility() || element.closest("details.menu"));
  const target = (keys) => {
    if (keys === "c") return visible(".composer textarea") ?? target("g t"); // where there is a composer, and it has the focus
    return visible(`[data-key="${CSS.escape(keys)}"]`);
  };
  const isTyping = (element) => element.isContentEditable || element.closest("input:not([type=checkbox], [type=radio]), textarea, select");

  const open = () => {
    for (const row of dialog.querySelectorAll("[data-needs]")) row.hidden = !target(row.dataset.needs);
    for (const row of dialog.querySelectorAll("[data-where]")) row.hidden = (row.dataset.needs && row.hidden) || !document.querySelector(row.dataset.where);
    dialog.showModal();
  };
  const go = (element) => {
    if (!element.matches("input, textarea")) return element.click();
    element.focus();
    element.scrollIntoView({ block: "nearest" });
  };

  let first = "", at = 0;
  document.addEventListener("keydown", (event) => {
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey || event.getModifierState("AltGraph");
    if (!toggle.checked || !isPlain || event.defaultPrevented || event.isComposing || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const keys = first && event.timeStamp - at < SEQUENCE_MS ? `${first} ${event.key}` : event.key;
    first = event.key === "g" ? "g" : "";
    at = event.timeStamp;
    if (!document.dispatchEvent(new CustomEvent("shortcut", { detail: keys, cancelable: true }))) return event.preventDefault();
    const found = keys === "?" ? null : target(keys);
    if (found) go(found);
    else if (keys === "?") open();
    else return;
    event.preventDefault();
  });

  // Whoever steers a computer by voice may not want them (WCAG 2.1.4).
  toggle.checked = localStorage.getItem("shortcuts") !== "off";
  toggle.addEventListener("change", () => localStorage.setItem("shortcuts", toggle.checked ? "on" : "off"));
  opener.hidden = false;
  opener.addEventListener("click", () => {
    opener.closest("details").open = false;
    open();
  });
})();
