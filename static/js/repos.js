// The dialog closes when what it asked about is done.
"use strict";

(() => {
  const dialog = document.getElementById("dialog");
  dialog.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.requestConfig.verb === "post" && event.detail.successful) dialog.close();
  });
})();
