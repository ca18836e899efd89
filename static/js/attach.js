// Files of a prompt: chosen, pasted or dropped, stored at once, and sent along by their numbers.
"use strict";

(() => {
  if (document.documentElement.dataset.attach === "") return; // more than one form on a page brings this script along
  document.documentElement.dataset.attach = "";

  const SHOW_PROGRESS_MS = 300;
  const sends = new Map(); // forms that wait for their files, and the button each was sent by
  const token = () => JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  const areaOf = (node) => node.closest?.("form")?.querySelector("[data-attach]");
  const list = (area) => area.querySelector(".attached");
  const isWaiting = (area) => Boolean(area?.querySelector("[data-uploading]"));
  const announce = (text) => { document.getElementById("announcer").textContent = text; };
  const withSize = (bytes) => (bytes < 2 ** 20 ? `${Math.max(1, Math.round(bytes / 1024))} KB` : `${(bytes / 2 ** 20).toFixed(1)} MB`);

  const say = (area, text) => { area.querySelector("[data-problem]").textContent = text; };

  // Which files a prompt has outlives the page, as the prompt itself does.
  const key = (area) => {
    const form = area.closest("form");
    return `attached:${form.dataset.draft || new URL(form.action).pathname}`;
  };
  const remember = (area) => {
    const ids = [...area.querySelectorAll("[name=attachments]")].map((box) => box.value);
    if (ids.length) localStorage.setItem(key(area), ids.join(" "));
    else localStorage.removeItem(key(area));
  };
  const recall = async (area) => {
    const ids = (localStorage.getItem(key(area)) || "").split(" ").filter(Boolean);
    if (!ids.length || list(area).childElementCount) return;
    const answer = await fetch(`${area.dataset.attach}?${ids.map((id) => `ids=${id}`).join("&")}`);
    if (!answer.ok || answer.redirected || list(area).childElementCount) return;
    list(area).innerHTML = (await answer.text()).trim();
    remember(area);
  };

  const row = (area, file) => {
    const item = document.createElement("li");
    item.className = "file";
    item.dataset.uploading = "";
    item.dataset.name = file.name;
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = file.name;
    const progress = document.createElement("progress");
    progress.max = 1;
    progress.value = 0;
    progress.ariaLabel = `Uploading ${file.name}`;
    progress.hidden = true;
    const cancel = document.createElement("button");
    cancel.type = "button";
    cancel.ariaLabel = `Do not attach ${file.name}`;
    cancel.dataset.cancel = "";
    cancel.textContent = "×";
    item.append(name, progress, cancel);
    list(area).append(item);
    return item;
  };

  const upload = (area, file) => {
    const item = row(area, file);
    const progress = item.querySelector("progress");
    const slow = setTimeout(() => { progress.hidden = false; }, SHOW_PROGRESS_MS);
    const request = new XMLHttpRequest();
    const data = new FormData();
    data.append("files", file, file.name);
    const end = (problem) => {
      clearTimeout(slow);
      item.remove();
      if (problem) say(area, problem);
      remember(area);
      const form = area.closest("form");
      if (isWaiting(area) || !sends.has(form)) return;
      const button = sends.get(form);
      sends.delete(form);
      if (!area.querySelector("[data-problem]").textContent) form.requestSubmit(button);
    };
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) progress.value = event.loaded / event.total; });
    request.addEventListener("load", () => {
      if (request.status === 201) {
        item.insertAdjacentHTML("beforebegin", request.responseText.trim());
        announce(`${file.name} is attached.`);
        end("");
      } else {
        const isSentence = request.status === 422 && request.getResponseHeader("Content-Type").startsWith("text/plain");
        end(isSentence ? request.responseText : `${file.name} could not be uploaded (${request.status}). Reload the page and try again.`);
      }
    });
    request.addEventListener("error", () => end(`${file.name} could not be uploaded: the server cannot be reached. Try again in a moment.`));
    request.addEventListener("abort", () => end(""));
    item.querySelector("[data-cancel]").addEventListener("click", () => request.abort());
    request.open("POST", area.dataset.attach);
    request.setRequestHeader("X-CSRFToken", token());
    request.send(data);
  };

  const add = (area, files) => {
    say(area, "");
    const most = Number(area.dataset.mostFiles);
    const room = most - list(area).childElementCount;
    const tooLarge = files.find((file) => file.size > Number(area.dataset.mostBytes));
    if (files.length > room) {
      say(area, `${most} files are the most for one prompt. Put them into an archive.`);
    } else if (tooLarge) {
      say(area, `${tooLarge.name} has ${withSize(tooLarge.size)}; ${withSize(Number(area.dataset.mostBytes))} are the most for one file.`);
    } else {
      for (const file of files) upload(area, file);
    }
  };

  // Pictures from the clipboard all have the same name, or none.
  const pasted = (area, files) => {
    let number = [...list(area).children].filter((item) => item.dataset.name.startsWith("pasted-")).length;
    return files.map((file) => {
      if (!file.type.startsWith("image/") || !/^(image\.\w+)?$/.test(file.name)) return file;
      number += 1;
      return new File([file], `pasted-${number}.${file.type.split("/")[1].replace(/^jpeg$/, "jpg").replace(/\W.*/, "")}`, { type: file.type });
    });
  };

  document.addEventListener("change", (event) => {
    const area = event.target.closest?.("[data-attach]");
    if (!area || event.target.type !== "file") return;
    add(area, [...event.target.files]);
    event.target.value = ""; // they are stored by then, and are not sent a second time with the form
  });
  document.addEventListener("paste", (event) => {
    const area = areaOf(event.target);
    const data = event.clipboardData;
    // Cells of a spreadsheet come as text and as a picture of it: there the text is meant.
    if (!area || !data.files.length || data.types.includes("text/plain")) return;
    event.preventDefault();
    add(area, pasted(area, [...data.files]));
  });

  // A file that is dropped beside the form must not take the page's place.
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && document.querySelector("[data-attach]");
  const mark = (form) => {
    for (const other of document.querySelectorAll("[data-drop]")) if (other !== form) delete other.dataset.drop;
    if (form) form.dataset.drop = "";
  };
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const area = areaOf(event.target);
    event.dataTransfer.dropEffect = area ? "copy" : "none";
    mark(area?.closest("form"));
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(null); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(null);
    const area = areaOf(event.target);
    const files = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    if (!area) return;
    if (files.some((item) => item.webkitGetAsEntry?.()?.isDirectory)) say(area, "A folder cannot be attached. Put it into an archive.");
    else add(area, [...event.dataTransfer.files]);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-attach] [data-remove]");
    if (!button) return;
    const area = button.closest("[data-attach]");
    const item = button.closest("li");
    const next = item.nextElementSibling || item.previousElementSibling;
    fetch(button.dataset.remove, { method: "POST", headers: { "X-CSRFToken": token(), "HX-Request": "true" } })
      .catch(() => {}); // it is not sent along in any case, and what no prompt has goes by itself
    item.remove();
    say(area, "");
    remember(area);
    announce(`${item.dataset.name} is removed.`);
    (next?.querySelector("button") || area.querySelector("input[type=file]")).focus();
  });

  // Sent while a file is on its way: the form waits for it.
  document.addEventListener("submit", (event) => {
    const area = event.target.querySelector("[data-attach]");
    if (!isWaiting(area)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    sends.set(event.target, event.submitter);
    announce("It is sent as soon as the files are uploaded.");
  }, true);
  const forget = (form) => {
    const area = form.querySelector?.("[data-attach]");
    if (area) localStorage.removeItem(key(area));
    return area;
  };
  addEventListener("submit", (event) => { if (!event.defaultPrevented) forget(event.target); });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, successful, requestConfig } = event.detail;
    if (!successful || requestConfig?.verb === "get" || !elt.matches("form")) return;
    const area = forget(elt);
    if (area) list(area).replaceChildren();
  });

  const begin = (root) => { for (const area of root.querySelectorAll("[data-attach]")) if (area.closest("form")) recall(area); };
  document.addEventListener("htmx:load", (event) => begin(event.target));
  begin(document);
})();
