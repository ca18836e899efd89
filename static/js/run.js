// The log of a run: new events are appended without moving what is read, older ones come when one nears the top, and the page
// never holds many more than MOST. The window is a stretch of seqs without a gap; `isTail` says that it reaches the newest.
"use strict";

(() => {
  const MOST = 1500;
  const NEAR = 40; // px from the bottom that count as "at the bottom"
  const AHEAD = 1200; // px from an end at which the next page is fetched
  const ON_A_SHEET = 200;
  const log = document.getElementById("log");
  const jump = document.getElementById("jump");
  const newCount = document.getElementById("new-count");
  const news = ["status", "work"].map((id) => asynccode.refresher(document.getElementById(id)));

  const sheets = () => [...log.querySelectorAll(".sheet")];
  const events = (root) => root.querySelectorAll(".event").length;
  const newest = () => Number(sheets().at(-1).dataset.last);
  const link = (rel) => log.querySelector(`.turn-page[rel=${rel}]`);
  let isTail = !link("next");
  let newestKnown = newest(); // the last seq the socket has told of
  let isAtBottom = true;
  let lowest = 0; // where the last jump to the end led
  let unseen = 0; // events that came below while one read further up

  const showJump = () => {
    if (isTail && isAtBottom) unseen = 0;
    jump.hidden = isTail && isAtBottom;
    newCount.textContent = unseen && isTail ? ` · ${unseen} new` : "";
  };
  const toBottom = () => {
    log.scrollTop = log.scrollHeight;
    lowest = log.scrollTop;
  };
  const look = () => { isAtBottom = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR; };

  // Change what the log holds. What is being read stays where it is; who is at the end stays at the end.
  const keepPlace = (change) => {
    if (isTail && isAtBottom) {
      change();
      toBottom();
      return;
    }
    const edge = log.getBoundingClientRect().top;
    const sheet = sheets().find((each) => each.getBoundingClientRect().bottom > edge);
    const first = [...(sheet?.children ?? [])].findIndex((each) => each.getBoundingClientRect().bottom > edge);
    const marks = first < 0 ? [] : [...sheet.children].slice(first, first + 8).map((each) => [each, each.getBoundingClientRect().top]);
    change();
    const mark = marks.find(([each]) => each.isConnected);
    if (mark) log.scrollTop += mark[0].getBoundingClientRect().top - mark[1];
  };

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    asynccode.localize(template.content);
    asynccode.merge?.(template.content, log);
    return template.content;
  };

  // Take whole sheets away at one end while there are too many events, but none that is near; the link there leads back to them.
  const trim = (end) => {
    const view = log.getBoundingClientRect();
    const isFar = (sheet) => {
      const { top, bottom } = sheet.getBoundingClientRect();
      return end === "top" ? bottom < view.top - 2 * AHEAD : top > view.bottom + 2 * AHEAD;
    };
    let count = events(log);
    for (const sheet of end === "top" ? sheets() : sheets().reverse()) {
      if (count <= MOST || !isFar(sheet)) break;
      count -= events(sheet);
      sheet.remove();
    }
    link("prev")?.remove();
    link("next")?.remove();
    const first = sheets()[0], last = sheets().at(-1);
    if (Number(first.dataset.first) > 1) first.before(turnPage("prev", "before", first.dataset.first, "Older events"));
    if (newest() < newestKnown) isTail = false;
    if (!isTail) last.after(turnPage("next", "after", last.dataset.last, "Newer events"));
    watch();
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
    if (!isTail || message.seq === message.after) return;
    if (log.scrollTop < lowest - NEAR) isAtBottom = false; // the reader has left, and the scroll event is still on its way
    keepPlace(() => {
      const content = parse(message.html);
      const fresh = events(content);
      if (fresh) log.querySelector(".empty")?.remove();
      if (!isAtBottom) unseen += fresh;
      const last = sheets().at(-1);
      if (last.childElementCount < ON_A_SHEET) {
        last.append(content);
        last.dataset.last = message.seq;
      } else {
        const sheet = document.createElement("div");
        Object.assign(sheet, { className: "sheet" });
        Object.assign(sheet.dataset, { first: message.after + 1, last: message.seq });
        sheet.append(content);
        last.after(sheet);
      }
    });
    const count = events(log);
    if (isAtBottom && count > MOST) {
      trim("top");
      toBottom();
    } else if (count > 2 * MOST) {
      trim("bottom"); // somebody reads further up; the rest is fetched when it is wanted
    }
    showJump();
  };

  const redial = asynccode.connect(() => `${log.dataset.socket}?after=${newestKnown}`, append);
  const arrived = () => { // the window reaches the newest events: go on from there
    isTail = true;
    newestKnown = newest();
    redial();
  };

  // Fetch a page of the log and let `place` put it where it belongs. One at a time.
  const fetchPage = async (query, place) => {
    if (log.ariaBusy) return;
    log.ariaBusy = "true";
    try {
      const response = await fetch(`${log.dataset.events}${query}`, { headers: { "HX-Request": "true" } });
      if (!response.ok) throw new Error(`${response.status}`);
      place(await response.text());
      watch();
    } catch (error) {
      asynccode.say("These events could not be fetched. Choose the link to try again.");
      if (!(error instanceof TypeError) && !/^\d+$/.test(error.message)) throw error;
    } finally {
      log.ariaBusy = null;
      showJump();
    }
  };
  const turnTo = (anchor) => {
    const rel = anchor.rel;
    return fetchPage(new URL(anchor.href).search, (html) => {
      if (!anchor.isConnected) return; // the window is elsewhere by now
      keepPlace(() => {
        const page = parse(html);
        const next = page.querySelector(`.turn-page[rel=${rel}]`);
        const parts = [page.querySelector(".sheet"), ...(next ? [next] : [])];
        anchor.replaceWith(...(rel === "prev" ? parts.reverse() : parts));
        if (rel === "next" && !next) arrived();
      });
      look(); // a window that was filled to its end is not at the end of what has come
      keepPlace(() => trim(rel === "prev" ? "bottom" : "top"));
      look();
    });
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && entry.target.isConnected) turnTo(entry.target);
  }, { root: log, rootMargin: `${AHEAD}px 0px` });
  const watch = () => {
    watcher.disconnect();
    for (const anchor of log.querySelectorAll(".turn-page")) watcher.observe(anchor);
  };

  log.addEventListener("click", (event) => {
    const anchor = event.target.closest(".turn-page");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    turnTo(anchor);
  });

  jump.addEventListener("click", (event) => {
    event.preventDefault();
    isAtBottom = true;
    if (isTail) {
      toBottom();
      showJump();
      return;
    }
    fetchPage("", (html) => {
      log.replaceChildren();
      log.append(parse(html));
      arrived();
      toBottom();
    });
  });

  const lookAndShow = () => {
    look();
    showJump();
  };
  log.addEventListener("scroll", lookAndShow, { passive: true });
  log.addEventListener("toggle", lookAndShow, true); // who opens something at the end wants to read it

  // A follow-up that was sent stands in the page's head until it begins.
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt.id === "follow-up" && event.detail.successful) news[0]();
  });

  // A change of the window's size must not lose the log's end.
  new ResizeObserver(() => { if (isTail && isAtBottom) toBottom(); }).observe(log);
  if (isTail) toBottom();
  showJump();
  watch();
})();
