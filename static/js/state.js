// The window's title and icon say how it stands: the part of the page with [data-page-state] does, anew after each swap.
"use strict";

(() => {
  const SIGNS = { running: "●", waiting: "…", done: "✓", failed: "✕" };
  const icon = document.getElementById("favicon");
  const plain = { title: document.title.replace(/\s+/g, " ").trim(), icon: icon.href };

  const show = () => {
    const part = document.querySelector("[data-page-state]");
    const state = part?.dataset.pageState ?? "";
    const sign = SIGNS[state];
    const title = part?.dataset.pageTitle ? `${part.dataset.pageTitle} · asynccode` : plain.title;
    document.title = sign ? `${sign} ${title}` : title;
    const href = sign ? icon.dataset[state] : plain.icon;
    if (icon.href !== new URL(href, location).href) icon.href = href;
  };

  document.addEventListener("htmx:afterSettle", show);
  show();
})();
