// The composer says what it will do: which repository, how many runs.
"use strict";

(() => {
  const form = document.getElementById("composer");
  const name = document.getElementById("repo-name");
  const count = document.getElementById("run-count");
  const unchosen = name.textContent.trim();

  const show = () => {
    const source = form.elements.source.value.trim();
    const radio = form.querySelector("[name=repo]:checked");
    name.textContent = source || (radio ? radio.closest("label").textContent.trim() : unchosen);
    let runs = 0;
    for (const box of form.querySelectorAll(".agent input[type=checkbox]:checked")) {
      runs += Number(box.closest(".agent").querySelector("input[type=number]").value) || 1;
    }
    count.textContent = runs === 0 ? "Choose an agent" : `${runs} run${runs === 1 ? "" : "s"}`;
  };
  form.addEventListener("input", show);
  form.addEventListener("change", (event) => {
    if (event.target.name === "repo") {
      form.elements.source.value = "";
      form.querySelector(".picker").open = false;
    }
    show();
  });
  show();
})();
