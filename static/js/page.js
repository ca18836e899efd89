// What every page does: dialogs, forms that are sent once, menus that close, errors that are said.
"use strict";

(() => {
  const dialog = document.getElementById("dialog");
  const problem = document.getElementById("problem");

  // A question arrives as HTML; it is a page of its own for those without scripts.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && dialog.childElementCount) dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });

  // What has been said can be sent away; what is merely good news goes by itself once it could be read.
  const READ_MS = 8000;
  const prepare = () => {
    for (const notice of document.querySelectorAll("#messages > .notice:not([data-ready])")) {
      notice.dataset.ready = "";
      notice.querySelector(".dismiss").hidden = false;
      if (notice.dataset.tone === "error" || notice.querySelector("form")) continue;
      const leave = () => notice.matches(":hover, :focus-within") ? setTimeout(leave, 1000) : notice.remove();
      setTimeout(leave, READ_MS);
    }
  };
  document.addEventListener("click", (event) => event.target.closest("#messages .dismiss")?.closest(".notice").remove());
  document.addEventListener("htmx:oobAfterSwap", prepare);
  prepare();

  // Ctrl or ⌘ with Enter sends; a form on its way cannot be sent twice.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.target.tagName !== "TEXTAREA") return;
    event.preventDefault();
    event.target.form?.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.busy || form.ariaBusy === "true") {
      if (form.ariaBusy === "true") event.preventDefault();
      return;
    }
    form.ariaBusy = "true";
    const button = event.submitter ?? form.querySelector("button.primary") ?? form.querySelector("button[type=submit]");
    button.dataset.label = button.innerHTML;
    setTimeout(() => { if (form.ariaBusy === "true") button.textContent = `${form.dataset.busy} …`; }, 300);
  });
  addEventListener("pageshow", () => { // also when the page comes back out of the cache of the Back button
    for (const form of document.querySelectorAll("form[aria-busy=true]")) {
      form.ariaBusy = null;
      for (const button of form.querySelectorAll("[data-label]")) button.innerHTML = button.dataset.label;
    }
  });

  // Menus and pickers close by Escape and by a click elsewhere.
  const open = () => document.querySelectorAll("details.menu[open], details.picker[open]");
  document.addEventListener("click", (event) => {
    for (const details of open()) if (!details.contains(event.target)) details.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const details of open()) {
      details.open = false;
      details.querySelector("summary").focus();
    }
  });

  // A sentence in the corner of the window.
  let timer;
  const say = (text) => {
    problem.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => { problem.textContent = ""; }, 8000);
  };
  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail; // our error pages answer scripts with one sentence
    const isSentence = xhr.getResponseHeader("Content-Type")?.startsWith("text/plain") && xhr.responseText.length < 300;
    say(isSentence ? xhr.responseText : `The server could not do that (${xhr.status}). Try again in a moment.`);
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (event.detail.requestConfig?.verb !== "get") say("The server cannot be reached. Try again in a moment.");
  });

  window.asynccode = { ...window.asynccode, say };
})();
