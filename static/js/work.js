// The side of a run's page with its work: tabs in place, parts that stay as the reader has them, a conversation to fold away.
"use strict";

(() => {
  const work = document.getElementById("work");
  const split = document.getElementById("split");
  const fold = document.getElementById("fold");
  const panels = () => [...work.querySelectorAll("details[id]")];
  const tabs = document.querySelectorAll(".sides [data-tab]"); // of a phone, beside the conversation's

  // What is fetched anew stays open or closed, and where it is.
  let before = null;
  work.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== work) return;
    before = event.detail.requestConfig.elt !== work ? null : { // null when a tab was chosen
      open: new Map(panels().map((panel) => [panel.id, panel.open])),
      scroll: work.scrollTop,
      focus: work.contains(document.activeElement) ? document.activeElement.id : "",
    };
  });
  work.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== work) return;
    for (const panel of panels()) panel.open = before?.open.get(panel.id) ?? panel.open;
    work.scrollTop = before?.scroll ?? 0;
    if (before?.focus) document.getElementById(before.focus)?.focus({ preventScroll: true });
    before = null;
  });

  // The address names the tab. Not by htmx, which would fetch the whole page anew at Back.
  document.addEventListener("htmx:afterRequest", (event) => {
    const { successful, target, requestConfig: { elt } } = event.detail;
    if (successful && target === work && elt.matches("a")) history.replaceState(null, "", elt.href);
  });
  for (const tab of tabs) tab.addEventListener("click", () => { location.hash = "work"; });
  work.addEventListener("htmx:afterSwap", () => {
    const shown = work.querySelector("#shown [name=tab]").value;
    for (const tab of tabs) tab.ariaCurrent = tab.dataset.tab === shown ? "page" : null;
  });

  const set = (isOpen) => {
    split.dataset.conversation = isOpen ? "open" : "folded";
    fold.ariaExpanded = String(isOpen);
  };
  fold.hidden = false;
  set(localStorage.getItem("conversation") !== "folded");
  fold.addEventListener("click", () => {
    set(fold.ariaExpanded !== "true");
    localStorage.setItem("conversation", split.dataset.conversation);
  });

  // The switch that opens the plan's editor is gone then.
  work.addEventListener("toggle", (event) => {
    if (event.target.id === "edit-plan" && event.target.open) event.target.querySelector("textarea").focus();
  }, true);
})();
