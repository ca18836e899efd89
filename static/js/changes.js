// The changes of a run: lines come as one scrolls, files open and close, what is between changes is shown, and what was viewed is marked.
"use strict";

(() => {
  const root = document.getElementById("changes");
  const list = document.getElementById("file-sections");
  if (!list) return;
  const AHEAD = 1500; // px from the window at which lines are fetched
  const AT_ONCE = 20; // files in one request at most,
  const ROWS_AT_ONCE = 1000; // and about so many of their lines
  const headers = { "HX-Request": "true" };
  const { gaps } = asynccode;
  const bar = document.getElementById("changes-bar");
  const sectionOf = (element) => element.closest(".changed-file");
  const bodyOf = (section) => section.querySelector(":scope > .lines-of");
  const isLoaded = (section) => !bodyOf(section).querySelector("a.load");
  const frame = () => new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 100); // nothing is painted where nobody looks
  });
  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };
  const get = async (address) => {
    const response = await fetch(address, { headers });
    if (!response.ok) throw new Error(`${response.status}`);
    return parse(await response.text());
  };

  // --- lines ---------------------------------------------------------------------------------------------------------------
  // What could not be coloured in time is asked for again when nobody waits for anything.
  const pale = new Set();
  let isColouring = false;
  const idle = window.requestIdleCallback ?? ((act) => setTimeout(act, 500));
  const colour = () => {
    if (isColouring || !pale.size) return;
    isColouring = true;
    idle(async () => {
      const [section] = pale;
      pale.delete(section);
      try {
        const body = section.isConnected && (await bodies([section.id], true)).get(section.id);
        if (body && !bodyOf(section).dataset.touched && !section.querySelector("tr[data-chosen]")) put(section, body, false);
      } catch { // it stays as it is
      }
      isColouring = false;
      colour();
    });
  };

  const bodies = async (anchors, isAgain = false) => {
    const query = new URLSearchParams({ since: root.dataset.ofTurns, ...isAgain && { again: "" } });
    for (const anchor of anchors) query.append("file", anchor);
    const content = await get(`${root.dataset.files}?${query}`);
    return new Map([...content.querySelectorAll(".lines-of")].map((body) => [body.dataset.of, body]));
  };
  const put = (section, body, mayColour = true) => {
    bodyOf(section).replaceWith(body);
    watcher.unobserve(section);
    prepare(section);
    if (mayColour && "plain" in body.dataset) {
      pale.add(section);
      colour();
    }
  };

  const prepare = (section) => {
    const body = bodyOf(section);
    section.style.setProperty("--rows", body.dataset.rows);
    gaps.prepare(body);
    if (body.querySelector("a.load[data-soon]")) watcher.observe(section); // what is in it is not laid out yet
  };

  // One request at a time, for the files that are wanted by then; each is put in its place in a frame of its own. What was wanted
  // because it was near is not any more once it is far: who jumps to the end does not wait for all in between.
  const wanted = new Map();
  let isFetching = false;
  const load = (section, isNear = false) => {
    if (isLoaded(section)) return Promise.resolve();
    if (!wanted.has(section.id)) wanted.set(section.id, { ...Promise.withResolvers?.() ?? deferred(), isNear });
    const wish = wanted.get(section.id);
    wish.isNear &&= isNear;
    fetchWanted();
    return wish.promise;
  };
  const next = () => {
    const some = [];
    let rows = 0;
    for (const wish of wanted) {
      const section = document.getElementById(wish[0]);
      rows += section ? Number(bodyOf(section).dataset.rows) : 0;
      if (some.length && (rows > ROWS_AT_ONCE || some.length === AT_ONCE)) break;
      some.push(wish);
    }
    return some;
  };
  const deferred = () => {
    const made = {};
    made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
  };
  const fetchWanted = async () => {
    if (isFetching || !wanted.size) return;
    isFetching = true;
    await frame(); // what comes near at the same time comes together
    const some = next();
    for (const [anchor] of some) wanted.delete(anchor);
    try {
      const found = await bodies(some.map(([anchor]) => anchor));
      for (const [anchor, { resolve }] of some) {
        const section = document.getElementById(anchor);
        if (section && found.has(anchor)) put(section, found.get(anchor));
        resolve();
        await frame();
      }
    } catch (error) {
      for (const [, { resolve }] of some) resolve();
      asynccode.say("These lines could not be fetched. Choose the link to try again.");
      if (!(error instanceof TypeError) && !/^\d+$/.test(error.message)) throw error;
    } finally {
      isFetching = false;
      fetchWanted();
    }
  };
  const isBusy = () => isFetching || wanted.size > 0;
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!target.isConnected) watcher.unobserve(target);
      else if (!isIntersecting && wanted.get(target.id)?.isNear) wanted.delete(target.id);
      else if (isIntersecting && !target.hasAttribute("data-closed")) load(target, true);
    }
  }, { rootMargin: `${AHEAD}px 0px` });

  // --- open and close ------------------------------------------------------------------------------------------------------
  const lookAnew = (section) => { // it is looked at anew whether its lines are wanted
    watcher.unobserve(section);
    if (section.querySelector("a.load[data-soon]")) watcher.observe(section);
  };
  const setOpen = (section, isOpen) => {
    section.toggleAttribute("data-closed", !isOpen);
    if (isOpen) lookAnew(section);
    section.querySelector(".toggle").ariaExpanded = String(isOpen);
    const edge = bar.getBoundingClientRect().bottom;
    if (!isOpen && section.getBoundingClientRect().top < edge) section.scrollIntoView();
  };
  const setViewed = (section, isViewed) => {
    const before = section.hasAttribute("data-viewed");
    section.toggleAttribute("data-viewed", isViewed);
    document.querySelector(`#tree-list [data-file="${section.id}"]`)?.toggleAttribute("data-viewed", isViewed);
    const count = document.getElementById("viewed-count");
    count.dataset.count = Number(count.dataset.count) + isViewed - before;
    count.querySelector("progress").value = count.dataset.count;
    count.querySelector(".figure").textContent = count.dataset.count;
    setOpen(section, !isViewed);
  };

  list.addEventListener("change", (event) => {
    if (event.target.name === "viewed") setViewed(sectionOf(event.target), event.target.checked);
  });
  for (const failed of ["htmx:responseError", "htmx:sendError"]) {
    list.addEventListener(failed, (event) => {
      const box = event.detail.elt.querySelector?.("[name=viewed]");
      if (!box) return;
      box.checked = !box.checked;
      setViewed(sectionOf(box), box.checked);
    });
  }

  list.addEventListener("click", async (event) => {
    const { target } = event;
    if (event.ctrlKey || event.metaKey) return;
    const link = target.closest("a.load"), button = target.closest("button");
    if (link && !event.shiftKey) {
      event.preventDefault();
      load(sectionOf(link));
    } else if (button?.matches(".toggle")) {
      const section = sectionOf(button);
      setOpen(section, section.hasAttribute("data-closed"));
    } else if (button?.matches(".copy-path")) {
      const said = await navigator.clipboard?.writeText(button.dataset.path).then(() => "The path is copied.", () => null);
      asynccode.say(said ?? "This browser does not let pages copy.");
    }
  });
  gaps.listen(list);
  for (const button of document.querySelectorAll("[data-all]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      for (const section of list.querySelectorAll(".changed-file")) setOpen(section, button.dataset.all === "open");
      button.closest("details").open = false;
    });
  }

  // --- tree ----------------------------------------------------------------------------------------------------------------
  const tree = document.getElementById("tree-list");
  const filter = document.getElementById("tree-filter");
  filter.hidden = false;
  const sift = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const link of tree.querySelectorAll("a[data-file]")) {
      link.parentElement.hidden = !words.every((word) => link.dataset.name.toLowerCase().includes(word));
    }
    for (const details of [...tree.querySelectorAll("details")].reverse()) {
      details.parentElement.hidden = !details.querySelector("li:not([hidden]) > a");
      if (words.length) details.open = true;
    }
    tree.querySelector(".none").hidden = tree.querySelector("li:not([hidden]) > a") !== null;
  };
  filter.addEventListener("input", sift);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Enter") tree.querySelector("li:not([hidden]) > a")?.click();
    else if (event.key === "Escape") {
      filter.value = "";
      sift();
      filter.blur();
    }
  });
  tree.addEventListener("click", (event) => {
    if (event.target.closest("a") && document.getElementById("tree").matches(":popover-open")) document.getElementById("tree").hidePopover();
  });

  // The heads of the files stay below the bar, however high that is.
  new ResizeObserver(() => { root.style.setProperty("--stays", `${bar.offsetHeight}px`); }).observe(bar);

  // --- sections, as they are and as they come ------------------------------------------------------------------------------
  const begin = (section) => {
    for (const button of section.querySelectorAll(":scope > header > [hidden]")) button.hidden = false;
    prepare(section);
    if ("plain" in bodyOf(section).dataset) pale.add(section);
  };
  for (const section of list.querySelectorAll(".changed-file")) begin(section);
  addEventListener("load", colour);

  asynccode.changes = { root, list, bar, bodies, put, begin, load, isLoaded, isBusy, setOpen, widen: gaps.widen, sift, parse };
})();
