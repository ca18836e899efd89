// Fields for several names with commas between them: chips, and a list to choose from that is searched as one types.
"use strict";

(() => {
  const WAIT_MS = 150;
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const enhance = (field) => {
    const sent = field.querySelector("input");
    const { label } = field.dataset;
    const search = make("input", {
      id: `${sent.id}_search`, type: "text", role: "combobox", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": `${sent.id}_found`, placeholder: `Add ${label.toLowerCase()}`,
    });
    const list = make("div", { id: `${sent.id}_found`, class: "popover found", role: "listbox", "aria-label": label });
    const box = make("div", { class: "name-box" }, search);
    list.hidden = true;
    const dots = new Map(); // of labels, by their names
    let names = sent.value.split(",").map((name) => name.trim()).filter(Boolean);
    let asked = null; // what the list is for, or is being fetched for
    let isThere = false; // whether it has come
    let current = -1;
    let timer = 0;

    const options = () => [...list.querySelectorAll(".option:not([hidden])")];
    const point = (at) => {
      const all = options();
      current = all.length ? (at + all.length) % all.length : -1;
      all.forEach((option, index) => {
        option.id = `${list.id}_${index}`;
        option.setAttribute("aria-selected", index === current);
      });
      if (current < 0) search.removeAttribute("aria-activedescendant");
      else {
        search.setAttribute("aria-activedescendant", all[current].id);
        all[current].scrollIntoView({ block: "nearest" });
      }
    };
    const close = () => {
      clearTimeout(timer);
      asked = null;
      isThere = false;
      list.hidden = true;
      search.setAttribute("aria-expanded", "false");
      search.removeAttribute("aria-activedescendant");
    };
    const show = () => {
      sent.value = names.join(", ");
      for (const chip of box.querySelectorAll(".chip")) chip.remove();
      for (const name of names) {
        const button = make("button", { type: "button", "aria-label": `Remove ${name}`, title: "Remove" }, "×");
        button.addEventListener("click", () => remove(name));
        search.before(make("span", { class: "chip" }, ...(dots.has(name) ? [dots.get(name).cloneNode(true)] : []), make("b", {}, name), button));
      }
    };
    const remove = (name) => {
      names = names.filter((other) => other !== name);
      show();
      search.focus();
    };
    const add = (name) => {
      const is = (other) => other.toLowerCase() === name.toLowerCase();
      if (name && !names.some(is)) names.push(name);
      search.value = "";
      show();
      close();
    };
    const fetched = async (query) => { // elements of the list; none where GitHub or the network does not tell
      const holder = document.createElement("div");
      try {
        const answer = await fetch(`${field.dataset.names}&q=${encodeURIComponent(query)}`, { headers: { "HX-Request": "true" } });
        if (answer.ok) holder.innerHTML = await answer.text();
      } catch { // typed names do without
      }
      for (const option of holder.querySelectorAll(".option")) {
        const dot = option.querySelector(".dot");
        if (dot) dots.set(option.dataset.name, dot);
      }
      return [...holder.children];
    };
    const look = async () => {
      const query = search.value.trim();
      if (asked === query) return;
      asked = query;
      isThere = false;
      const found = await fetched(query);
      if (asked !== query) return; // closed, or asked for something else since
      if (!found.length) {
        close();
        return;
      }
      isThere = true;
      list.replaceChildren(...found);
      for (const option of options()) option.hidden = names.includes(option.dataset.name);
      list.hidden = false;
      search.setAttribute("aria-expanded", "true");
      point(query ? 0 : -1);
    };
    // Enter came before what it is to choose from: what was typed stands there until that is known.
    const settle = async (typed) => {
      add(typed);
      const first = (await fetched(typed)).find((option) => option.matches(".option"))?.dataset.name;
      if (!first) return;
      names = [...new Set(names.map((name) => (name === typed ? first : name)))];
      show();
    };
    const take = () => add(list.hidden || current < 0 ? search.value.trim() : options()[current].dataset.name);

    search.addEventListener("input", () => {
      if (search.value.includes(",")) {
        for (const name of search.value.split(",")) add(name.trim());
        return;
      }
      clearTimeout(timer);
      timer = setTimeout(look, WAIT_MS);
    });
    search.addEventListener("click", look);
    search.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) look();
        else point(current + (event.key === "ArrowDown" ? 1 : current < 0 ? 0 : -1));
      } else if (event.key === "Enter" && (search.value.trim() || (!list.hidden && current >= 0))) {
        event.preventDefault();
        if (isThere && asked === search.value.trim()) take();
        else settle(search.value.trim());
      } else if (event.key === "Escape" && !list.hidden) {
        event.stopPropagation();
        close();
      } else if (event.key === "Backspace" && !search.value && names.length) {
        remove(names.at(-1));
      }
    });
    list.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays where it is
    list.addEventListener("click", (event) => {
      const option = event.target.closest(".option");
      if (option) add(option.dataset.name);
    });
    box.addEventListener("focusout", (event) => {
      if (box.contains(event.relatedTarget)) return;
      if (search.value.trim()) add(search.value.trim());
      close();
    });
    box.addEventListener("click", (event) => {
      if (event.target === box) search.focus();
    });

    if (sent.getAttribute("aria-invalid")) search.setAttribute("aria-invalid", "true");
    field.querySelector("label").htmlFor = search.id;
    field.querySelector(".hint").hidden = true;
    sent.type = "hidden";
    sent.after(box);
    box.append(list);
    field.dataset.isReady = "";
    show();
  };

  const prepare = (root) => {
    for (const field of root.querySelectorAll("[data-names]:not([data-is-ready])")) enhance(field);
  };
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  prepare(document);
})();
