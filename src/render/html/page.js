"use strict";
(() => {
  const input = document.querySelector("#search");
  const found = document.querySelector(".found");
  const buttons = [...document.querySelectorAll(".tools button")];
  const changes = [...document.querySelectorAll(".item")].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
    kinds: element.dataset.kind.split(" "),
    // The same change on several nodes is one entry. The buttons count changes.
    count: Number(element.dataset.changes),
  }));
  const wanted = () => buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.kind);

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = wanted();
    let shown = 0;
    let all = 0;
    for (const { element, text, kinds: own, count } of changes) {
      const fits = words.every((word) => text.includes(word)) && (kinds.length === 0 || own.some((kind) => kinds.includes(kind)));
      element.hidden = !fits;
      shown += fits ? count : 0;
      all += count;
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector(".item:not([hidden])");
    }
    found.textContent = shown === all ? "" : `${shown} of ${all}`;
  }

  input.addEventListener("input", filter);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== input) {
      event.preventDefault();
      input.focus();
    }
  });
  // A link to a change unfolds it, even if a filter hides it.
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.matches("details")) {
      target.hidden = false;
      target.closest(".group").hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", open);
  // The browser may restore the content of the search field.
  filter();
  open();
})();
