// The composer and the preview of several tasks: pickers by keyboard, agents as chips, and what will start is said before.
"use strict";

(() => {
  const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const waiting = (runs, free) => {
    if (runs <= free) return runs === 1 ? "starts at once" : "all start at once";
    if (free === 0) return runs === 1 ? "waits for a free place" : "all wait for a free place";
    return `${free} start${free === 1 ? "s" : ""} at once, ${runs - free} wait${runs - free === 1 ? "s" : ""}`;
  };
  const count = document.getElementById("run-count");

  const batch = document.getElementById("batch");
  if (batch) {
    const runs = Number(batch.dataset.runs);
    const show = () => {
      const tasks = batch.querySelectorAll("[name=keep]:checked").length;
      count.textContent = tasks
        ? `${many(tasks, "task")} × ${many(runs, "run")} = ${many(tasks * runs, "run")} · ${waiting(tasks * runs, Number(batch.dataset.free))}`
        : "Choose at least one task.";
      batch.querySelector("[data-tasks]").textContent = many(tasks, "task");
      batch.querySelector(".primary").disabled = tasks === 0;
    };
    batch.addEventListener("change", show);
    show();
  }

  const form = document.getElementById("composer");
  if (!form) return;
  const { prompt, source, branch } = form.elements;
  // Elsewhere the keyboard on the screen would cover half the page as soon as something is given the focus.
  const hasKeyboard = matchMedia("(pointer: fine)").matches;
  const amounts = [...form.querySelectorAll("input[type=number][data-modes]")];
  const runsOf = (field) => Math.max(0, Math.floor(Number(field.value)) || 0);

  // --- what is chosen, in words and chips ----------------------------------------------------------------------------------
  const repoPicker = document.getElementById("repo-picker");
  const branchPicker = document.getElementById("branch-picker");
  const wanted = form.querySelector("[type=hidden][name=mode]");
  const buttons = [...form.querySelectorAll("button[name=mode]")];
  const preferred = wanted?.value;

  const showModes = (chosen) => {
    for (const button of buttons) {
      const unable = new Set(chosen.filter((field) => !field.dataset.modes.split(" ").includes(button.value)).map((field) => field.dataset.agent));
      button.disabled = unable.size > 0;
      button.title = unable.size > 0 ? `${[...unable].join(" and ")} cannot do this` : "";
    }
    const primary = buttons.find((button) => button.value === preferred && !button.disabled) ?? buttons.findLast((button) => !button.disabled);
    for (const button of buttons) button.classList.toggle("primary", button === primary);
    if (!primary) return;
    wanted.value = primary.value;
    primary.title = "Ctrl or ⌘ with Enter";
  };

  const showCount = (chosen) => {
    const runs = chosen.reduce((sum, field) => sum + runsOf(field), 0);
    if (runs === 0) return "Choose an agent";
    if (runs > Number(count.dataset.most)) return `${runs} runs; ${count.dataset.most} are the most at once`;
    if (form.elements.several.checked) return `${many(runs, "run")} for each prompt`;
    const backend = form.elements.backend?.value ?? "local"; // where there is no choice
    return `${many(runs, "run")} · ${waiting(runs, Number(count.getAttribute(`data-free-${backend}`)))}`;
  };

  const show = () => {
    const radio = form.querySelector("[name=repo]:checked");
    const typed = source.value.trim();
    const isChosen = !typed || radio?.dataset.source === typed; // what was typed counts before what is chosen
    repoPicker.querySelector("[data-shown]").textContent = (isChosen && radio?.dataset.name) || typed || "Choose a repository";
    const usual = isChosen ? radio?.dataset.branch : "";
    branchPicker.querySelector("[data-shown]").textContent = branch.value.trim() || usual || "default branch";
    for (const field of amounts) {
      const chip = form.querySelector(`[data-runs="${CSS.escape(field.name)}"]`);
      chip.hidden = runsOf(field) === 0;
      chip.querySelector("[data-times]").textContent = runsOf(field);
      chip.querySelector("[data-step='-1']").disabled = runsOf(field) <= 1;
      for (const step of chip.querySelectorAll("[data-step='1']")) step.disabled = runsOf(field) >= Number(field.max);
    }
    const chosen = amounts.filter((field) => runsOf(field) > 0);
    showModes(chosen);
    const said = showCount(chosen);
    if (count.textContent !== said) count.textContent = said;
  };
  form.addEventListener("input", show);
  form.addEventListener("change", show);

  // --- steppers: in the picker beside the number, in a chip instead of it ----------------------------------------------------
  const set = (field, runs) => {
    field.value = Math.min(Math.max(runs, 0), Number(field.max));
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const leave = (chip) => { // the focus goes to the chip beside the one that is gone
    const others = [...form.querySelectorAll(".crew > :not([hidden])")];
    const next = others.find((other) => chip.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING) ?? others.at(-1);
    (next?.querySelector("[data-step=none]") ?? document.querySelector("#agent-picker > summary")).focus();
  };
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-step]");
    if (!button) return;
    const chip = button.closest("[data-runs]");
    const field = chip ? form.elements[chip.dataset.runs] : button.parentElement.querySelector("input");
    set(field, button.dataset.step === "none" ? 0 : runsOf(field) + Number(button.dataset.step));
    if (chip?.hidden) leave(chip);
    else if (button.disabled) chip?.querySelector("[data-step]:not(:disabled)").focus();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.name === "preset_name") {
      event.preventDefault();
      event.target.parentElement.querySelector("button").click();
      return;
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target !== prompt) { // in the prompt as on every page
      event.preventDefault();
      event.stopPropagation();
      form.requestSubmit();
      return;
    }
    const chip = event.target.closest("[data-runs]");
    if (chip && (event.key === "Delete" || event.key === "Backspace")) {
      event.preventDefault();
      set(form.elements[chip.dataset.runs], 0);
      leave(chip);
    }
    if (event.key === "Enter" && event.target.matches("#agent-picker input")) {
      event.preventDefault();
      close(document.getElementById("agent-picker"));
    }
  });

  // --- pickers: type to search, arrows move, Enter chooses -------------------------------------------------------------------
  const close = (picker) => {
    picker.open = false;
    picker.querySelector("summary").focus();
  };
  const forgetBranches = () => {
    branchPicker.querySelector(".found").replaceChildren();
    branchPicker.querySelector(".find").value = "";
  };
  const choose = (radio) => {
    const picker = radio.closest(".picker");
    radio.checked = true;
    if (picker === repoPicker) {
      source.value = radio.dataset.source ?? "";
      branch.value = "";
      forgetBranches();
      htmx.trigger("#access", "look");
    } else {
      branch.value = radio.value;
    }
    form.dispatchEvent(new Event("input", { bubbles: true }));
    close(picker);
  };
  const options = (picker) => [...picker.querySelectorAll(".option:not([hidden]) > input")];
  const take = (picker) => options(picker).at(0) && choose(options(picker)[0]);

  for (const picker of [repoPicker, branchPicker]) {
    const search = picker.querySelector(".find");
    let isAwaited = false; // Enter came before what it is to choose from
    let shown = -1;
    search.addEventListener("input", () => { isAwaited = false; });
    picker.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const stops = [search, ...options(picker)];
      const at = stops.indexOf(event.target);
      if (at < 0) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        stops[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
      } else if (event.key === "Enter") {
        event.preventDefault();
        if (at > 0) choose(event.target);
        else if (!isReady()) isAwaited = true;
        else if (search.value.trim()) take(picker);
        else close(picker);
      } else if (at > 0 && event.key.length === 1 && event.key !== " ") {
        search.focus(); // who goes on typing goes on searching
      }
    });
    picker.addEventListener("click", (event) => {
      if (event.target.matches(".option > input")) choose(event.target);
    });
    const isReady = () => {
      const found = picker.querySelector(".found");
      return found.dataset.q === search.value.trim() && !(options(picker).length === 0 && found.querySelector("[data-pending]"));
    };
    picker.addEventListener("htmx:beforeSwap", (event) => { // what is shown more of begins where the button was
      if (event.target.matches(".more")) shown = event.target === document.activeElement ? options(picker).length : -1;
    });
    picker.addEventListener("htmx:afterSwap", () => {
      if (shown >= 0) (options(picker)[shown] ?? picker.querySelector(".more") ?? search).focus();
      shown = -1;
      if (picker === branchPicker) for (const option of options(picker)) option.checked = option.value === branch.value;
      if (!isAwaited || !isReady()) return;
      isAwaited = false;
      take(picker);
    });
  }

  for (const picker of form.querySelectorAll(".picker")) {
    const popover = picker.querySelector(".popover");
    picker.addEventListener("toggle", () => {
      if (!picker.open) {
        if (picker === branchPicker) picker.querySelector(".find").value = "";
        return;
      }
      popover.dataset.align = "";
      if (popover.getBoundingClientRect().right > document.documentElement.clientWidth - 8) popover.dataset.align = "end";
      if (hasKeyboard) popover.querySelector("input.find, input.search, input[type=number]")?.focus();
      if (picker === branchPicker) htmx.trigger(picker.querySelector(".find"), "look");
    });
    picker.addEventListener("focusout", (event) => {
      const next = event.relatedTarget; // an element around the picker, when what is pressed in it takes no focus
      if (next && !picker.contains(next) && !next.contains(picker)) picker.open = false;
    });
  }

  // --- presets: all fields of the agents as they were saved ------------------------------------------------------------------
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-crew]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    for (const [name, value] of Object.entries(JSON.parse(link.dataset.crew))) if (form.elements[name]) form.elements[name].value = value;
    form.dispatchEvent(new Event("input", { bubbles: true }));
    close(link.closest(".picker"));
  });

  // --- the list of prompts ---------------------------------------------------------------------------------------------------
  form.elements.list.addEventListener("change", () => {
    const [file] = form.elements.list.files;
    const chip = form.elements.list.closest(".chip").querySelector("span");
    chip.textContent = file ? file.name : "Add a list";
    if (file) form.elements.several.checked = true;
    show();
  });

  show();
  const wrong = form.querySelector("[data-invalid] > summary") ?? (form.querySelector(".errorlist") && prompt);
  const nothing = document.activeElement === document.body && !location.hash;
  if (wrong) wrong.focus();
  else if (nothing && hasKeyboard) prompt.focus({ preventScroll: true });
})();
