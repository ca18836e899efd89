// Tells of the end of runs by the browser's notifications: for those who chose so in their settings and allowed it here.
"use strict";

(() => {
  const wish = document.body.dataset.notify;
  const place = document.getElementById("notification-permission");
  const tabs = new BroadcastChannel("runs-seen"); // the page of a run that is being looked at needs no notification in any tab
  const shown = new Map(), seen = new Set();
  const SAME_MS = 10000; // the tabs hear of an end within this time of each other

  const isInView = (path) => location.pathname === path && document.visibilityState === "visible" && document.hasFocus();
  const withdraw = (run) => {
    shown.get(run)?.close();
    shown.delete(run);
  };
  tabs.addEventListener("message", ({ data: run }) => {
    seen.add(run);
    setTimeout(() => seen.delete(run), SAME_MS);
    withdraw(run);
  });

  const tell = ({ run, url, title, body }) => {
    if (isInView(new URL(url, location).pathname)) return tabs.postMessage(run);
    if (seen.has(run)) return;
    let notification;
    try {
      notification = new Notification(title, { body, tag: `run-${run}`, icon: document.getElementById("favicon").href });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return asynccode.say(`${title}: ${body}`); // a browser that shows notifications of installed apps only
    }
    shown.set(run, notification);
    notification.addEventListener("click", () => {
      notification.close();
      focus();
      if (location.pathname !== new URL(url, location).pathname) location.assign(url);
    });
  };

  const isAllowed = () => "Notification" in window && Notification.permission === "granted";
  let isOn = false;
  const start = () => {
    if (isOn || !isAllowed() || !wish || wish === "never") return;
    isOn = true;
    asynccode.followUser((message) => (message.ended ?? []).forEach(tell));
  };

  // On the settings page: whether this browser may, and if not, why.
  const explain = () => {
    if (!place) return;
    place.hidden = false;
    place.replaceChildren();
    if (!("Notification" in window)) return place.append("This browser has no notifications.");
    if (!isSecureContext) return place.append("Browsers show notifications of https addresses only, and this page has come by http.");
    if (Notification.permission === "granted") return place.append("This browser shows them.");
    if (Notification.permission === "denied") {
      return place.append("This browser blocks notifications of this site. Allow them in its settings for the site: the sign left of the address leads there.");
    }
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Allow notifications in this browser" });
    button.addEventListener("click", async () => {
      await Notification.requestPermission();
      explain();
      start();
    });
    place.append(button);
  };

  explain();
  start();
})();
