// The dialog closes when what it asked about is done. A host that was allowed is written into the form of the network as well.
"use strict";

(() => {
  const dialog = document.getElementById("dialog");
  dialog.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.requestConfig.verb === "post" && event.detail.successful) dialog.close();
  });
  document.body.addEventListener("host-allowed", (event) => {
    const hosts = document.getElementById("id_network_hosts");
    hosts.value = [...hosts.value.split("\n").filter(Boolean), event.detail.host].join("\n");
  });
})();
