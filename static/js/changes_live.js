// New changes of a run at work: the page says that there are some, and takes them in without moving what is being read.
"use strict";

(() => {
  const root = document.getElementById("changes");
  const news = document.getElementById("news");
  if (!news) return;
  const refresh = asynccode.refresher(news);
  asynccode.connect(() => root.dataset.socket, (message) => { if (message.is_news) refresh(); });

  // The line at the upper edge, by its id, so that it can be found again in another version of its file.
  const reading = ({ current, edge, topOf }) => {
    const section = current();
    const part = [...section.querySelectorAll("tbody")].find((each) => each.getBoundingClientRect().bottom > edge());
    const line = [...part?.querySelectorAll("td[id]") ?? []].find((each) => topOf(each) >= edge());
    return [line, section].filter(Boolean).map((element) => [element.id, topOf(element)]);
  };

  // A file that is the same stays the very one that it was; one that changed stays open or closed, and has its lines if it had them.
  const take = async (fresh, page) => {
    const { list, bodies, put, begin, isLoaded } = page;
    const before = new Map([...list.querySelectorAll(":scope > .changed-file")].map((section) => [section.id, section]));
    const sections = [...fresh.querySelectorAll("#file-sections > .changed-file")];
    const changed = sections.filter(({ id, dataset }) => before.has(id) && before.get(id).dataset.digest !== dataset.digest);
    const open = changed.filter(({ id }) => isLoaded(before.get(id)) && !before.get(id).hasAttribute("data-closed"));
    const found = new Map();
    for (let at = 0; at < open.length; at += 20) {
      for (const entry of await bodies(open.slice(at, at + 20).map(({ id }) => id))) found.set(...entry);
    }
    const places = reading(page);
    document.documentElement.style.overflowAnchor = "none"; // the place is kept here
    const kept = new Set(sections.map(({ id }) => id));
    for (const [id, section] of before) if (!kept.has(id)) section.remove();
    let cursor = list.querySelector(":scope > .changed-file");
    for (const section of sections) {
      const old = before.get(section.id);
      const isSame = old?.dataset.digest === section.dataset.digest;
      const placed = isSame ? old : document.adoptNode(section);
      if (old && !isSame) {
        const next = old.nextElementSibling;
        if (cursor === old) cursor = next;
        old.replaceWith(placed);
        const wasClosed = old.hasAttribute("data-closed") && !old.hasAttribute("data-viewed");
        placed.toggleAttribute("data-closed", wasClosed || placed.hasAttribute("data-viewed"));
        placed.querySelector(".toggle").ariaExpanded = String(!placed.hasAttribute("data-closed"));
      }
      if (placed === cursor) cursor = cursor.nextElementSibling;
      else if (cursor) cursor.before(placed);
      else list.append(placed);
      if (isSame) {
        page.renew?.(section.querySelector(".comments"));
        continue;
      }
      begin(placed);
      if (found.has(placed.id)) put(placed, found.get(placed.id));
      htmx.process(placed);
    }
    for (const more of list.querySelectorAll(":scope > .more")) more.remove();
    for (const more of fresh.querySelectorAll("#file-sections > .more")) {
      list[more.querySelector("[rel=prev]") ? "prepend" : "append"](document.adoptNode(more));
    }
    const [id, top] = places.find(([each]) => document.getElementById(each)) ?? [];
    const element = document.getElementById(id);
    if (element) page.hold(element, () => scrollBy(0, page.topOf(element) - top));
    setTimeout(() => { document.documentElement.style.overflowAnchor = ""; }, 100);
  };

  const show = async (what) => {
    const response = await fetch(location.pathname + location.search);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!response.ok || !asynccode.changes || !fresh.getElementById("file-sections")) {
      location.reload();
      return;
    }
    await take(fresh, asynccode.changes);
    for (const part of ["summary", "viewed-count"]) document.getElementById(part).replaceWith(document.adoptNode(fresh.getElementById(part)));
    document.getElementById("tree-list").replaceChildren(...fresh.getElementById("tree-list").childNodes);
    asynccode.changes.renew?.(fresh.getElementById("other-comments"));
    asynccode.changes.renewDrafts?.(fresh.getElementById("drafts"));
    news.replaceChildren(...fresh.getElementById("news").childNodes);
    asynccode.changes.sift();
    dispatchEvent(new Event("scroll"));
    document.getElementById("announcer").textContent = what;
  };
  // How comments stand is brought up to date without being asked for: it moves nothing.
  news.addEventListener("htmx:afterSwap", () => news.querySelector("#show-news[data-itself]")?.click());
  news.addEventListener("click", async (event) => {
    const button = event.target.closest("#show-news");
    if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      await show("itself" in button.dataset ? "The comments are up to date." : "The new changes are shown.");
    } catch (error) {
      asynccode.say("The new changes could not be fetched. Try again.");
      if (!(error instanceof TypeError)) throw error;
    } finally {
      button.ariaBusy = null;
    }
  });
})();
