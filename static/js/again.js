// Looks again until the page can be shown: the page itself is loaded only then, so that nothing flickers meanwhile.
"use strict";

(() => {
  const pause = 1000 * Number(document.currentScript.dataset.seconds);
  const look = async () => {
    const response = await fetch(location.href, { cache: "no-store", redirect: "manual" }).catch(() => null); // the server starts anew
    if (response && response.status !== 503 && response.status !== 502) location.reload();
    else setTimeout(look, pause);
  };
  setTimeout(look, pause);
})();
