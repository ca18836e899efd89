// Sockets that come back by themselves, and parts of pages that are fetched anew when there is news.
"use strict";

(() => {
  const LONGEST_MS = 15000;
  const USER = "/ws/user/"; // news of all the user's runs
  const connection = document.getElementById("connection");
  const announcer = document.getElementById("announcer");
  const lost = new Set();

  const report = () => {
    if (connection) connection.textContent = lost.size ? "Reconnecting …" : "";
  };

  // Keeps a socket to `path()` open and gives every message to `take`; each is answered, so that the next may come.
  // Returns a function that connects anew at once.
  const connect = (path, take) => {
    const me = {};
    let socket, wait = 500, redial, notice = null;
    const isDown = () => {
      notice ??= setTimeout(() => { lost.add(me); report(); }, 2500);
    };
    const isUp = () => {
      clearTimeout(notice);
      notice = null;
      lost.delete(me);
      report();
    };
    const dial = () => {
      clearTimeout(redial);
      if (socket) {
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
      }
      isDown();
      const url = new URL(path(), location);
      url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      socket = new WebSocket(url);
      socket.onopen = isUp;
      socket.onmessage = (event) => {
        wait = 500;
        take(JSON.parse(event.data));
        if (socket.readyState === WebSocket.OPEN) socket.send('{"ack": true}');
      };
      socket.onclose = () => {
        isDown();
        redial = setTimeout(dial, wait * (0.75 + Math.random() / 2));
        wait = Math.min(2 * wait, LONGEST_MS);
      };
    };
    addEventListener("online", () => { if (socket.readyState !== WebSocket.OPEN) dial(); });
    dial();
    return dial;
  };

  // One socket a path, however many parts of the page ask for it.
  const sockets = new Map();
  const follow = (path, take) => {
    if (!sockets.has(path)) {
      const takers = new Set();
      sockets.set(path, takers);
      connect(() => path, (message) => takers.forEach((each) => each(message)));
    }
    sockets.get(path).add(take);
  };

  // Fetch `element` anew, not more than about twice a second, and not while nobody looks.
  const refresher = (element) => {
    let timer = null, isWanted = false;
    const go = () => {
      timer = null;
      if (!isWanted) return;
      if (document.hidden) return;
      isWanted = false;
      htmx.trigger(element, "news");
      timer = setTimeout(go, 500);
    };
    document.addEventListener("visibilitychange", () => { if (!timer) go(); });
    return () => {
      isWanted = true;
      if (!timer) go();
    };
  };

  // What a part says with [data-poll=SECONDS] inside changes without anybody telling: a place in a queue, a percentage.
  const poller = (element, refresh) => {
    let timer;
    return () => {
      clearTimeout(timer);
      const asked = element.querySelector("[data-poll]");
      if (asked) timer = setTimeout(refresh, 1000 * Number(asked.dataset.poll));
    };
  };

  // Say what has changed to those who cannot see it.
  let said = document.querySelector("[data-announce]")?.textContent.replace(/\s+/g, " ").trim();
  const announce = () => {
    const text = document.querySelector("[data-announce]")?.textContent.replace(/\s+/g, " ").replace(/[\d:]+\d/g, "").trim();
    if (text && text !== said) announcer.textContent = said = text;
  };

  for (const element of document.querySelectorAll("[hx-trigger=news]")) {
    const refresh = refresher(element), poll = poller(element, refresh);
    poll();
    element.addEventListener("htmx:afterSwap", () => { poll(); announce(); });
    if (element.dataset.live) follow(element.dataset.live, refresh);
  }

  // How many runs are on their way, in the bar of the page.
  const activity = document.getElementById("activity");
  const count = (message) => {
    if (!activity || !message.activity) return;
    for (const part of activity.children) {
      const number = message.activity[part.dataset.status];
      part.querySelector("b").textContent = number;
      part.hidden = !number;
    }
  };
  if (sockets.has(USER)) follow(USER, count);

  window.asynccode = { ...window.asynccode, connect, refresher, followUser: (take) => { follow(USER, count); follow(USER, take); } };
})();
