// Times as the reader's clock has them: [data-clock] a time of day, [data-ago] how long ago, [data-since] a running duration.
"use strict";

(() => {
  const pad = (number) => String(number).padStart(2, "0");
  const duration = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    const hours = Math.floor(s / 3600), minutes = Math.floor((s % 3600) / 60);
    return hours ? `${hours}:${pad(minutes)}:${pad(s % 60)}` : `${minutes}:${pad(s % 60)}`;
  };
  const ago = (seconds) => {
    if (seconds < 60) return "just now";
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    return `${Math.floor(seconds / 86400)} d ago`;
  };
  const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const tick = () => {
    const now = Date.now();
    for (const element of document.querySelectorAll("[data-since]")) set(element, duration((now - Date.parse(element.dataset.since)) / 1000));
    for (const element of document.querySelectorAll("[data-ago]")) set(element, ago((now - Date.parse(element.dateTime)) / 1000));
  };
  const localize = (root) => {
    for (const element of root.querySelectorAll("[data-clock]")) {
      const at = new Date(element.dateTime);
      element.textContent = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
      element.title = at.toLocaleString();
      delete element.dataset.clock;
    }
    tick();
  };

  window.asynccode = { ...window.asynccode, localize };
  localize(document);
  document.addEventListener("htmx:afterSwap", (event) => localize(event.detail.target));
  setInterval(tick, 1000);
})();
