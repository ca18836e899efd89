// The side of a run's page with its work: tabs in place, panels that stay as the reader has them, a conversation to fold away.
"use strict";

(() => {
  const work = document.getElementById("work");
  const split = document.getElementById("split");
  const fold = document.getElementById("fold");
  const panels = () => [...work.querySelectorAll("details[id]")];
  const tabs = document.querySelectorAll(".sides [data-tab]"); // of a phone, beside the conversation's
  const nameOf = (panel) => panel.dataset.path ?? panel.id;

  // What is fetched anew takes the place of what has changed, and of nothing else: a panel whose file is the same stays the very
  // one that it was, one that has changed stays open or closed, and what is being looked at stays where it is.
  let before = null;
  work.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== work) return;
    if (event.detail.requestConfig.elt !== work) { // a tab was chosen
      before = null;
      return;
    }
    const edge = work.getBoundingClientRect().top;
    const place = panels().find((panel) => panel.getBoundingClientRect().bottom > edge);
    before = {
      panels: new Map(panels().map((panel) => [nameOf(panel), panel])),
      scroll: work.scrollTop,
      focus: work.contains(document.activeElement) ? document.activeElement : null,
      name: place && nameOf(place),
      top: place?.getBoundingClientRect().top,
    };
  });
  work.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== work) return;
    if (!before) {
      work.scrollTop = 0;
      return;
    }
    for (const panel of panels()) {
      const old = before.panels.get(nameOf(panel));
      if (!old) continue;
      if (old.dataset.digest && old.dataset.digest === panel.dataset.digest) {
        old.id = panel.id;
        panel.replaceWith(old);
      } else {
        panel.open = old.open;
      }
    }
    work.scrollTop = before.scroll;
    const place = before.name && panels().find((panel) => nameOf(panel) === before.name);
    if (place) work.scrollTop += place.getBoundingClientRect().top - before.top;
    if (before.focus?.isConnected) before.focus.focus({ preventScroll: true });
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

  // A link to a file opens its panel.
  work.addEventListener("click", (event) => {
    const panel = event.target.closest("a[href^='#file-']") && document.getElementById(event.target.closest("a").hash.slice(1));
    if (panel) panel.open = true;
  });
})();
