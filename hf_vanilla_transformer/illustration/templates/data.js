"use strict";

// The page's data: JSON with arrays of whole numbers, `low + step * n` each, and how they are read and written out.

const page = JSON.parse(document.getElementById("page-data").textContent);

const readArrays = new WeakMap();

/** The values of a written array, row after row, and its shape and step. */
function readArray(written) {
  if (!readArrays.has(written)) {
    const bytes = Uint8Array.from(atob(written.data), (letter) => letter.charCodeAt(0));
    const wide = written.bits === 16;
    const view = new DataView(bytes.buffer);
    const values = new Float32Array(wide ? bytes.length / 2 : bytes.length);
    for (let i = 0; i < values.length; i += 1) {
      values[i] = written.low + written.step * (wide ? view.getUint16(2 * i, true) : bytes[i]);
    }
    readArrays.set(written, { values, shape: written.shape, step: written.step });
  }
  return readArrays.get(written);
}

/** A part of an array by its first indices: `part(weights, head)` is a matrix, `part(weights, head, i)` a row. */
function part(array, ...indices) {
  let size = array.values.length;
  let start = 0;
  indices.forEach((index, axis) => {
    size /= array.shape[axis];
    start += index * size;
  });
  return { values: array.values.subarray(start, start + size), shape: array.shape.slice(indices.length), step: array.step };
}

/** Decimals that mean something for numbers in steps of `step`: 0 to 4. */
function decimalsFor(step) {
  return Math.max(0, Math.min(4, Math.floor(-Math.log10(step || 1e-9))));
}

/** A number with a real minus sign and as many decimals as its rounding allows. */
function written(value, step = 1e-4) {
  const text = Math.abs(value).toFixed(decimalsFor(step));
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

function percent(probability) {
  const value = probability * 100;
  if (value > 99.95 && value < 100) return "> 99.9 %";
  if (value > 0 && value < 0.05) return "< 0.1 %";
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

function extent(values) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest || 1;
}

/** How far a shown number can be from the model's own: half a step, and half of the last decimal. */
function roundingOf(...arrays) {
  const worst = Math.max(...arrays.map((array) => array.step / 2 + 0.5 * 10 ** -decimalsFor(array.step)));
  const digits = Math.max(1, Math.ceil(-Math.log10(worst)));
  return (Math.ceil(worst * 10 ** digits) / 10 ** digits).toFixed(digits);
}
