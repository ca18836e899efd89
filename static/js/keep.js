// What somebody has chosen or opened in a part of a page stays so when that part is fetched anew: boxes and details with an id.
"use strict";

(() => {
  const kept = new Map();
  let isKeeping = false;
  const states = (root) => [...root.querySelectorAll("input[type=checkbox][id], details[id]")];
  const key = (element) => element.tagName === "DETAILS" ? "open" : "checked";

  const keep = (event) => {
    for (const element of states(event.detail.target)) kept.set(element.id, element[key(element)]);
  };
  const restore = () => {
    for (const [id, value] of kept) {
      const element = document.getElementById(id);
      if (element) element[key(element)] = value;
    }
    kept.clear();
    isKeeping = false;
  };

  // Only for news: what comes as the answer to something one did is as it should be.
  const isNews = (event) => event.detail.requestConfig?.triggeringEvent?.type === "news";
  document.addEventListener("htmx:beforeSwap", (event) => {
    isKeeping = isNews(event);
    if (isKeeping) keep(event);
  });
  document.addEventListener("htmx:oobBeforeSwap", (event) => { if (isKeeping) keep(event); });
  document.addEventListener("htmx:afterSwap", restore);
})();
