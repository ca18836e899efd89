// What is typed into a form with data-draft="key" is kept in this browser until it is sent. The key names the user, too.
"use strict";

(() => {
  const SENT = "draft-sent"; // the key of what is on its way, for the page that comes next
  const LEFT_OUT = new Set(["csrfmiddlewaretoken", "submission", "attachments", "mode"]);
  const WAIT_MS = 300;

  const name = (form) => `draft:${form.dataset.draft}`;
  // A browser may refuse to keep anything; then there are no drafts.
  const attempt = (action) => {
    try { return action(); } catch { return null; }
  };
  const drop = (form) => attempt(() => localStorage.removeItem(name(form)));
  const texts = (form) => [...form.elements].filter((field) => field.matches("textarea"));
  // A form with [data-given] begins with a text; untouched, it is as good as empty.
  const isBlank = (field) => field.value.trim() === "" && !("given" in field.form.dataset);
  const isUntouched = (field) => "given" in field.form.dataset && field.value === field.defaultValue;
  const isEmpty = (form) => texts(form).every((field) => isBlank(field) || isUntouched(field));

  const fieldsOf = (form) => [...form.elements].filter(
    (field) => field.name && !LEFT_OUT.has(field.name) && field.matches("textarea, select, input:not([type=file], [type=hidden], [type=password])"),
  );
  const keyOf = (field) => field.type === "checkbox" ? `${field.name}=${field.value}` : field.name; // several boxes may share a name
  const isSwitch = (field) => field.matches("[type=checkbox], [type=radio]");

  const save = (form) => {
    if (isEmpty(form)) return drop(form);
    const values = {};
    for (const field of fieldsOf(form)) {
      if (field.type === "checkbox") values[keyOf(field)] = field.checked;
      else if (field.type !== "radio" || field.checked) values[field.name] = field.value;
    }
    return attempt(() => localStorage.setItem(name(form), JSON.stringify(values)));
  };

  const restore = (form) => {
    const values = attempt(() => JSON.parse(localStorage.getItem(name(form))));
    if (!values || !isEmpty(form) || form.querySelector(".errorlist")) return;
    const asked = new URLSearchParams(location.search); // what an address asks for counts before what was left
    for (const field of fieldsOf(form)) {
      if (!(keyOf(field) in values) || asked.has(field.name)) continue;
      if (field.type === "radio") field.checked = field.value === values[field.name];
      else if (isSwitch(field)) field.checked = values[keyOf(field)] && !field.disabled;
      else field.value = values[field.name];
      if (field.matches("textarea") && !isUntouched(field)) field.closest("details")?.setAttribute("open", "");
    }
    form.dispatchEvent(new Event("input", { bubbles: true }));
  };

  let timer;
  let pending = null;
  const flush = () => {
    clearTimeout(timer);
    if (pending?.isConnected) save(pending);
    pending = null;
  };
  const later = (event) => {
    const form = event.target.closest?.("form[data-draft]");
    if (!form) return;
    if (pending && pending !== form) flush();
    pending = form;
    clearTimeout(timer);
    timer = setTimeout(flush, WAIT_MS);
  };
  document.addEventListener("input", later);
  document.addEventListener("change", later);
  addEventListener("pagehide", flush);

  // A form was taken when its answer led to another page than the one for signing in.
  document.addEventListener("submit", (event) => {
    const key = event.target.dataset.draft ?? event.target.dataset.drops;
    if (key && !event.defaultPrevented) attempt(() => sessionStorage.setItem(SENT, key));
  });
  const sent = attempt(() => sessionStorage.getItem(SENT));
  attempt(() => sessionStorage.removeItem(SENT));
  const [arrival] = performance.getEntriesByType("navigation");
  if (sent && arrival?.redirectCount > 0 && !location.pathname.startsWith("/sign-in")) {
    attempt(() => localStorage.removeItem(`draft:${sent}`));
  }
  // In place, the answer to what was taken is a form that is empty again.
  document.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt;
    if (form.matches?.("form[data-draft]") && event.detail.successful) {
      if (pending === form) { clearTimeout(timer); pending = null; }
      drop(form);
    }
  });

  for (const form of document.querySelectorAll("form[data-draft]")) restore(form);
})();
