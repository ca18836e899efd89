// The log of a run: new events are appended without moving what is read, older ones fetched on demand, and the page never
// holds more than MOST events. The window is a stretch of seqs without a gap; `isTail` says that it reaches the newest.
"use strict";

(() => {
  const MOST = 3000;
  const NEAR = 40; // px from the bottom that count as "at the bottom"
  const log = document.getElementById("log");
  const jump = document.getElementById("jump");
  const news = ["status", "changes"].map((id) => asynccode.refresher(document.getElementById(id)));

  const sheets = () => [...log.querySelectorAll(".sheet")];
  const newest = () => Number(sheets().at(-1).dataset.last);
  const link = (rel) => log.querySelector(`[rel=${rel}]`);
  let isTail = !link("next");
  let newestKnown = newest(); // the last seq the socket has told of
  let isAtBottom = true;
  let lowest = 0; // where the last jump to the end led

  const toBottom = () => {
    log.scrollTop = log.scrollHeight;
    lowest = log.scrollTop;
  };
  const showJump = () => { jump.hidden = isTail && isAtBottom; };
  const fragment = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    asynccode.localize(template.content);
    return template.content;
  };

  // Take whole sheets away at one end while there are too many events; the link there leads back to them.
  const trim = (end) => {
    let count = log.getElementsByClassName("event").length;
    for (const sheet of end === "top" ? sheets() : sheets().reverse()) {
      if (count <= MOST || sheets().length === 1) break;
      count -= sheet.childElementCount;
      sheet.remove();
    }
    link("prev")?.remove();
    link("next")?.remove();
    const first = sheets()[0], last = sheets().at(-1);
    if (Number(first.dataset.first) > 1) first.before(turnPage("prev", "before", first.dataset.first, "Older events"));
    if (newest() < newestKnown) isTail = false;
    if (!isTail) last.after(turnPage("next", "after", last.dataset.last, "Newer events"));
  };
  const turnPage = (rel, name, seq, text) => {
    const anchor = document.createElement("a");
    Object.assign(anchor, { className: "turn-page", rel, href: `${location.pathname}?${name}=${seq}`, textContent: text });
    return anchor;
  };

  const append = (message) => {
    if (message.after !== newestKnown) return;
    newestKnown = message.seq;
    if (message.is_news) news.forEach((refresh) => refresh());
    if (!isTail) return;
    if (log.scrollTop < lowest - NEAR) isAtBottom = false; // the reader has left, and the scroll event is still on its way
    log.querySelector(".empty")?.remove();
    const last = sheets().at(-1);
    const content = fragment(message.html);
    if (last.childElementCount < 200) {
      last.append(content);
      last.dataset.last = message.seq;
    } else {
      const sheet = document.createElement("div");
      Object.assign(sheet, { className: "sheet" });
      Object.assign(sheet.dataset, { first: message.after + 1, last: message.seq });
      sheet.append(content);
      last.after(sheet);
    }
    if (isAtBottom) {
      trim("top");
      toBottom();
    } else if (log.getElementsByClassName("event").length > 2 * MOST) {
      trim("bottom"); // somebody reads further up; the rest is fetched when it is wanted
    }
    showJump();
  };

  const redial = asynccode.connect(() => `${log.dataset.socket}?after=${newestKnown}`, append);

  // Fetch a page of the log and put it where `place` says; what is being read stays where it is.
  const fetchPage = async (query, place) => {
    log.ariaBusy = "true";
    try {
      const response = await fetch(`${log.dataset.events}${query}`, { headers: { "HX-Request": "true" } });
      if (!response.ok) throw new Error(`${response.status}`);
      place(fragment(await response.text()));
    } catch {
      document.getElementById("problem").textContent = "These events could not be fetched. Try again in a moment.";
    } finally {
      log.ariaBusy = null;
    }
  };
  const arrived = () => { // the window reaches the newest events: go on from there
    isTail = true;
    newestKnown = newest();
    redial();
  };

  log.addEventListener("click", (event) => {
    const anchor = event.target.closest(".turn-page");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const query = new URL(anchor.href).search;
    if (anchor.rel === "prev") {
      fetchPage(query, (page) => {
        const height = log.scrollHeight, top = log.scrollTop;
        const older = page.querySelector("[rel=prev]");
        anchor.replaceWith(...(older ? [older] : []), page.querySelector(".sheet"));
        log.scrollTop = top + log.scrollHeight - height;
        trim("bottom");
        showJump();
      });
    } else {
      fetchPage(query, (page) => {
        const newer = page.querySelector("[rel=next]");
        anchor.replaceWith(page.querySelector(".sheet"), ...(newer ? [newer] : []));
        if (!newer) arrived();
        const height = log.scrollHeight;
        trim("top");
        log.scrollTop -= height - log.scrollHeight;
        showJump();
      });
    }
  });

  jump.addEventListener("click", (event) => {
    event.preventDefault();
    isAtBottom = true;
    if (isTail) {
      toBottom();
      showJump();
      return;
    }
    fetchPage("", (page) => {
      log.replaceChildren(page);
      arrived();
      toBottom();
      showJump();
    });
  });

  log.addEventListener("scroll", () => {
    isAtBottom = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
    showJump();
  }, { passive: true });

  // The keyboard scrolls the log; a change of the window's size must not lose its end.
  new ResizeObserver(() => { if (isTail && isAtBottom) toBottom(); }).observe(log);
  if (isTail) toBottom();
  showJump();
})();
