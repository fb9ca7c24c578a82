// Colour for numbers: strips and maps on canvases of one pixel a number, scaled up by the style sheet.

// Blue and orange are told apart by every kind of colour vision; zero is the paper's own colour.
const PALETTES = {
  light: { zero: [250, 249, 245], negative: [10, 84, 160], positive: [196, 84, 0], weight: [8, 72, 140] },
  dark: { zero: [30, 36, 46], negative: [96, 176, 255], positive: [255, 168, 88], weight: [140, 204, 255] },
};

// Head colours after Okabe and Ito, a little darker on white and lighter on black.
const HEAD_COLOURS = {
  light: ["#0068ad", "#c85200", "#007d5c", "#b5588e", "#2c93cf", "#b07800", "#6a4bb0", "#5c5c5c"],
  dark: ["#5fb0f0", "#ff8f4a", "#3fcb9f", "#ea9fcb", "#9adcff", "#f2c14e", "#b9a2f5", "#c4c4c4"],
};

function themeName() {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

function headColour(head) {
  return HEAD_COLOURS[themeName()][head % 8];
}

/** Red, green and blue of a number between -1 and 1, or of a weight between 0 and 1. */
function colourOf(fraction, isWeight) {
  const palette = PALETTES[themeName()];
  const end = isWeight ? palette.weight : fraction < 0 ? palette.negative : palette.positive;
  const share = Math.min(1, Math.abs(fraction)) ** 0.8;
  return palette.zero.map((from, i) => Math.round(from + (end[i] - from) * share));
}

/** Text colour on such a ground. */
function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#14181f" : "#ffffff";
}

/** Draw a matrix, one pixel a number; `scale` is the number of full colour. */
function paint(canvas, matrix, scale, isWeight) {
  const [rows, columns] = matrix.shape.length === 1 ? [1, matrix.shape[0]] : matrix.shape;
  canvas.width = columns;
  canvas.height = rows;
  canvas.repaint = () => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i += 1) {
      image.data.set([...colourOf(matrix.values[i] / scale, isWeight), 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  };
  canvas.repaint();
  return canvas;
}

/** A vector as a strip of colour. */
function strip(vector, scale, label, className = "strip") {
  const canvas = make("canvas", { class: className, role: "img", "aria-label": label });
  return paint(canvas, { values: vector.values, shape: [vector.values.length] }, scale, false);
}

/**
 * A matrix as a map of colour, with the number under the pointer or the keyboard's cursor below it, and all numbers in
 * a table. `rows` and `columns` name a row or column by its index.
 */
function heatMap({ matrix, label, rows, columns, scale, isWeight = false, format, className = "", tableNote }) {
  const [height, width] = matrix.shape;
  const write = format ?? ((value) => written(value, matrix.step));
  const canvas = make("canvas", { class: `map ${className}`, role: "img", tabindex: "0" });
  canvas.setAttribute("aria-label", `${label}. Arrow keys read its numbers.`);
  paint(canvas, matrix, scale ?? extent(matrix.values), isWeight);
  canvas.style.setProperty("--rows", height);
  const cursor = make("span", { class: "cursor", hidden: true, "aria-hidden": "true" });
  const readout = make("output", { class: "readout", "aria-live": "polite" });
  let [row, column] = [0, -1];
  const show = () => {
    readout.textContent = `${rows(row)} · ${columns(column)}: ${write(matrix.values[row * width + column])}`;
    cursor.hidden = false;
    const sizes = { left: column / width, top: row / height, width: 1 / width, height: 1 / height };
    for (const [name, share] of Object.entries(sizes)) cursor.style.setProperty(name, `${share * 100}%`);
  };
  const hide = () => {
    cursor.hidden = true;
    readout.textContent = "";
  };
  const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    row = clamp(Math.floor(((event.clientY - box.top) / box.height) * height), height);
    column = clamp(Math.floor(((event.clientX - box.left) / box.width) * width), width);
    show();
  });
  canvas.addEventListener("pointerleave", hide);
  canvas.addEventListener("blur", hide);
  canvas.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (down === undefined) return;
    event.preventDefault();
    row = clamp(row + down, height);
    column = clamp(column + right, width);
    show();
  });
  const MOST = 64;
  const behind = numbersBehind(label, () => ({
    header: ["", ...Array.from({ length: Math.min(width, MOST) }, (_, j) => columns(j))],
    rows: Array.from({ length: height }, (_, i) => [
      rows(i),
      ...Array.from(matrix.values.subarray(i * width, i * width + Math.min(width, MOST)), write),
    ]),
    note: tableNote ?? (width > MOST ? `The first ${MOST} of ${width} columns.` : ""),
  }));
  return make("figure", { class: "heat" }, make("div", { class: "frame" }, canvas, cursor), readout, behind);
}

/** A map of weights with names beside its rows and above its columns; it scrolls by itself. */
function labelledMap({ rowTokens, columnTokens, label, ...map }) {
  const figure = heatMap({
    label,
    rows: (i) => `${i + 1} ${isolated(rowTokens[i])}`,
    columns: (j) => isolated(columnTokens[j]),
    scale: 1,
    isWeight: true,
    ...map,
  });
  const name = (token) => make("span", {}, tokenElement(token));
  const columns = make("div", { class: "column-names", "aria-hidden": "true" }, ...columnTokens.map(name));
  const rows = make("div", { class: "row-names", "aria-hidden": "true" }, ...rowTokens.map(name));
  const frame = figure.querySelector(".frame");
  const counts = { "--rows": String(rowTokens.length), "--columns": String(columnTokens.length) };
  frame.remove();
  figure.prepend(scrollPanel(label, make("div", { class: "named", style: counts }, make("span", {}), columns, rows, frame)));
  return figure;
}

/** What the colours of a map mean. */
function colourLegend(low, high, isWeight = false) {
  const values = Float32Array.from({ length: 64 }, (_, i) => (isWeight ? i / 63 : (i / 63) * 2 - 1));
  const canvas = paint(make("canvas", { class: "scale", "aria-hidden": "true" }), { values, shape: [64] }, 1, isWeight);
  return make("p", { class: "legend" }, low, canvas, high);
}

/** After a change of theme all canvases are painted anew. */
function repaintAll() {
  document.querySelectorAll("canvas").forEach((canvas) => canvas.repaint?.());
  document.querySelectorAll("[data-head]").forEach((element) => {
    element.style.setProperty("--head", headColour(Number(element.dataset.head)));
  });
  document.querySelectorAll("[data-weight]").forEach(tint);
}

/** Ground and ink of a cell from its `data-weight`. */
function tint(cell) {
  const colour = colourOf(Number(cell.dataset.weight), true);
  cell.style.setProperty("background-color", `rgb(${colour.join(" ")})`);
  cell.style.setProperty("color", inkOn(colour));
}
