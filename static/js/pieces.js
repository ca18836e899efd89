// The pieces of a log: what arrives later joins what is there. A result goes into its call, a chunk of text to the text so
// far, a final text replaces its chunks, a newer plan folds the older ones. The agents' ids are hostile text: they
// are compared, never made into selectors.
"use strict";

(() => {
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const index = (elements, name) => new Map(elements.map((element) => [element.dataset[name], element]));
  const took = (from, to) => {
    const seconds = Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
    if (hours) return `${hours} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
  };

  const settle = (call, result) => {
    if (!("hasResult" in call.dataset)) {
      const facts = result.querySelector(".facts");
      const time = facts.querySelector(".took");
      time.textContent ||= took(call.dataset.at, result.dataset.at);
      call.querySelector(".facts").replaceWith(facts);
      call.querySelector(".body").append(...all(result, ".result"));
      call.dataset.hasResult = "";
      delete call.dataset.open;
    }
    result.remove();
  };

  const results = (root, log) => {
    for (const [from, to] of [[root, log], [log, root]]) {
      const orphans = all(from, ".event[data-result-of]").filter((element) => element.dataset.resultOf);
      if (!orphans.length) continue;
      const calls = index(all(to, ".event[data-call]"), "call");
      for (const result of orphans) {
        const call = calls.get(result.dataset.resultOf);
        if (call) settle(call, result);
      }
    }
  };

  const texts = (root, log) => {
    const coming = all(log, ".event[data-chunk-of]");
    if (!coming.length) return;
    const open = index(coming, "chunkOf");
    for (const more of all(root, ".event[data-chunk-of]")) {
      const text = open.get(more.dataset.chunkOf);
      if (!text || text.dataset.look !== more.dataset.look) continue;
      text.querySelector(".text").append(...more.querySelector(".text").childNodes);
      text.querySelector(".what:empty")?.append(...more.querySelector(".what").childNodes);
      more.remove();
    }
    for (const final of all(root, ".event[data-text-of]")) {
      const text = open.get(final.dataset.textOf);
      if (!text || !final.dataset.textOf) continue;
      const details = text.querySelector("details"), said = final.querySelector(".for");
      if (details) final.querySelector("details").open = details.open;
      if (said && !said.textContent.trim()) said.textContent = `for ${took(text.dataset.at, final.dataset.at)}`;
      text.remove();
    }
  };

  const plans = (root, log) => {
    const found = [...all(log, ".event[data-look=plan]"), ...all(root, ".event[data-look=plan]")];
    if (!root.querySelector("[data-look=plan]")) return;
    found.sort((a, b) => a.dataset.seq - b.dataset.seq).pop();
    for (const plan of found) plan.querySelector("details").open = false;
  };

  // How long a stage took is known when what follows it is there.
  const stages = (root, log) => {
    for (const [earlier, later] of [[log, root], [root, log]]) {
      const stage = all(earlier, ".event[data-look=divider][data-open]").at(-1);
      const from = stage?.querySelector("time").dateTime, to = later.querySelector(".event[data-end] > time")?.dateTime;
      if (!stage || !to || Date.parse(to) < Date.parse(from)) continue;
      const time = document.createElement("span");
      Object.assign(time, { className: "took", textContent: took(from, to) });
      stage.querySelector(".text").append(time);
      delete stage.dataset.open;
    }
  };

  // Nothing goes on by itself beyond the end of a stage.
  const ends = (root, log) => {
    const end = Math.max(...all(root, ".event[data-end] > time").map((time) => Date.parse(time.dateTime)));
    for (const open of all(log, ".event[data-open][data-at]")) {
      if (Date.parse(open.dataset.at) > end || end === -Infinity) continue;
      delete open.dataset.open;
      open.removeAttribute("aria-busy");
      open.removeAttribute("aria-live");
    }
  };

  // `root` is a fragment on its way into `log`, at its beginning or at its end. What has found its place has left `root`.
  const merge = (root, log) => {
    results(root, log);
    texts(root, log);
    plans(root, log);
    stages(root, log);
    ends(root, log);
  };
  window.asynccode = { ...window.asynccode, merge };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.whole");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    let part = link.closest(".part");
    if (!part) { // the text and the line below it, beside other things of the event
      const text = link.closest(".rest").parentElement.querySelector(".text");
      part = document.createElement("div");
      part.className = "part";
      text.replaceWith(part);
      part.append(text, link.closest(".rest"));
    }
    const place = part.parentElement;
    htmx.ajax("GET", link.href, { target: part, swap: "outerHTML" }).then(() => {
      const whole = place.querySelector(".part > :first-child");
      whole?.setAttribute("tabindex", "-1");
      whole?.focus({ preventScroll: true });
    });
  });

  // The time of day of what shows none, on the reader's clock.
  document.addEventListener("pointerover", (event) => {
    const piece = event.target.closest?.(".event[data-at]:not([title])");
    if (piece) piece.title = new Date(piece.dataset.at).toLocaleTimeString();
  });
})();
