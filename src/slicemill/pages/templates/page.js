"use strict";
(() => {
  const order = (row, column) => {
    const text = row.cells[column].dataset.order;
    const value = Number(text);
    return text !== "" && !Number.isNaN(value) ? value : text;
  };

  const compare = (a, b) => {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  };

  const sortBy = (table, head, column) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [order(row, column), row]);
    keyed.sort((a, b) => (up ? compare(a[0], b[0]) : compare(b[0], a[0])));
    body.append(...keyed.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) =>
      head.firstElementChild.addEventListener("click", () => sortBy(table, head, column)));
  }

  for (const field of document.querySelectorAll("[data-search]")) {
    const name = field.dataset.search;
    const rows = [...document.getElementById(`table-${name}`).tBodies[0].rows];
    const found = document.querySelector(`[data-found="${name}"]`);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      found.value = `${shown} of ${rows.length}`;
    });
  }

  for (const viewer of document.querySelectorAll(".viewer")) {
    const frames = JSON.parse(viewer.querySelector("script").textContent);
    const [columns, width, height] = ["columns", "width", "height"].map((key) => Number(viewer.dataset[key]));
    const slider = viewer.querySelector("input[type=range]");
    const words = viewer.querySelector(".frame-words");
    const show = (place) => {
      const frame = frames[place];
      slider.value = place;
      slider.setAttribute("aria-valuetext", `slice ${frame.slice}`);
      viewer.querySelector(".window").setAttribute(
        "viewBox", `${(place % columns) * width} ${Math.floor(place / columns) * height} ${width} ${height}`);
      for (const line of viewer.querySelectorAll(".truth-line")) line.setAttribute("d", frame.truth);
      for (const line of viewer.querySelectorAll(".predicted-line")) line.setAttribute("d", frame.predicted);
      words.textContent = `slice ${frame.slice}${frame.words ? `, ${frame.words}` : ""}`;
    };
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
    slider.addEventListener("input", () => show(Number(slider.value)));
    viewer.addEventListener("keydown", (event) => {
      if (!(event.key in step) || event.target.tagName === "SELECT") return;
      event.preventDefault();
      show(Math.min(frames.length - 1, Math.max(0, Number(slider.value) + step[event.key])));
    });
    viewer.querySelector(":scope > svg").addEventListener("click", () => slider.focus());
    for (const choice of viewer.querySelectorAll("select")) {
      const pictures = viewer.querySelectorAll(choice.dataset.pictures);
      choice.addEventListener("change", () =>
        pictures.forEach((picture, place) => { picture.style.display = place === Number(choice.value) ? "" : "none"; }));
    }
    for (const box of viewer.querySelectorAll("input[type=checkbox]")) {
      box.addEventListener("change", () => viewer.classList.toggle(`no-${box.dataset.line}`, !box.checked));
    }
  }
})();
