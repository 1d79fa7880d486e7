"use strict";
(() => {
  const grid = document.getElementById("cards");
  const form = document.getElementById("controls");
  const shown = document.getElementById("shown");
  if (!grid || !form) return;
  const cards = [...grid.children];
  const fields = ["status", "dataset", "modality", "text", "sort", "order"];
  const texts = new Set(["dataset", "modality", "name"]);

  // The state of the gallery is in the address, so that a view can be bookmarked and shared
  function readAddress() {
    const state = new URLSearchParams(location.hash.slice(1));
    form.reset();
    for (const name of fields) {
      const field = form.elements[name];
      const before = field.value;
      if (!state.has(name)) continue;
      field.value = state.get(name);
      if (field.value !== state.get(name)) field.value = before;
    }
    return fields.some((name) => state.has(name));
  }

  function writeAddress() {
    const state = new URLSearchParams();
    for (const name of fields) {
      const field = form.elements[name];
      const usual = field.options ? field.options[0].value : "";
      if (field.value !== usual) state.set(name, field.value);
    }
    history.replaceState(null, "", "#" + (state.toString() || "gallery"));
  }

  function matches(card, words) {
    const data = card.dataset;
    const equal = ["status", "dataset", "modality"].every((name) => {
      const wanted = form.elements[name].value;
      return !wanted || data[name] === wanted;
    });
    return equal && words.every((word) => data.text.includes(word));
  }

  function compare(key, sign) {
    if (texts.has(key)) return (a, b) => sign * a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
    // What is unknown (-1) comes last in either order
    return (a, b) => {
      const [x, y] = [Number(a.dataset[key]), Number(b.dataset[key])];
      return x < 0 || y < 0 ? (x < 0) - (y < 0) : sign * (x - y);
    };
  }

  function apply() {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const card of cards) {
      card.hidden = !matches(card, words);
      if (!card.hidden) count += 1;
    }
    const sign = form.elements.order.value === "falling" ? -1 : 1;
    grid.append(...cards.slice().sort(compare(form.elements.sort.value, sign)));
    shown.textContent = count === cards.length ? "" : `${count} of these ${cards.length} match`;
    document.getElementById("none").hidden = count > 0;
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); writeAddress(); });
  form.addEventListener("reset", () => setTimeout(() => { apply(); writeAddress(); }));
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); apply(); } });
  if (location.hash.includes("=") && readAddress()) document.getElementById("gallery").scrollIntoView();
  apply();
})();
