// Section 4: scaled dot-product attention for one token and one head, then for all tokens as matrices.

const ATTENTION_STEPS = [
  ["query", "The token's query: what this head looks for on its behalf."],
  ["key", "Every token has a key, with which the query is compared."],
  ["score", "Score: the query times each key."],
  ["scaled", "Divided by the square root of dₖ, so that large scores do not push the softmax into regions of tiny gradients."],
  ["weight", "Softmax: the scores become weights that add up to 1."],
  ["weighted", "Each value, faded by its weight; added up, they are what the token takes in."],
];

function fillAttentionSteps(place) {
  const kinds = Object.keys(KINDS).filter((kind) => page.attention[kind]?.layers[0].query);
  if (!kinds.length) {
    place.append(absent(page.missing.projections ?? "This page was made without queries, keys and values."));
    return;
  }
  const state = { kind: kinds[0], layer: 0, head: 0, token: 0, step: ATTENTION_STEPS.length - 1 };
  const lists = make("div", { class: "controls" });
  const picker = make("div", {});
  const steps = make("div", {});
  const picture = make("div", { "aria-live": "off" });
  const matrices = make("div", {});
  const update = () => {
    picture.replaceChildren(...stepPicture(state));
    matrices.replaceChildren(...matrixPicture(state));
  };
  const setKind = (kind) => {
    const { layers } = page.attention[kind];
    Object.assign(state, { kind, layer: 0, head: 0, token: 0 });
    const set = (name) => (value) => {
      state[name] = value;
      update();
    };
    lists.replaceChildren(
      numberList("Layer", layers.length, 0, set("layer")),
      numberList("Head", layers[0].weights.shape[0], 0, set("head")),
    );
    picker.replaceChildren(tokenPicker("Token that asks", queriesAndKeys(kind).queries, 0, set("token")));
    update();
  };
  const names = ATTENTION_STEPS.map(([name], i) => `${i + 1} ${name === "scaled" ? "÷ √dₖ" : name}`);
  steps.append(
    choice("Step", names, state.step, (step) => {
      state.step = step;
      picture.replaceChildren(...stepPicture(state));
    }),
  );
  place.append(
    make("div", { class: "controls" }, choice("Kind", kinds.map((kind) => KINDS[kind]), 0, (i) => setKind(kinds[i])), lists),
    card(picker, steps, picture),
    make("h3", {}, "The same for all tokens at once"),
    matrices,
  );
  setKind(kinds[0]);
}

function headArrays({ kind, layer, head }) {
  const heads = page.attention[kind].layers[layer];
  const names = ["weights", "scores", "query", "key", "value", "output"];
  return Object.fromEntries(names.map((name) => [name, part(readArray(heads[name]), head)]));
}

function rowOf(matrix, index) {
  return part(matrix, index);
}

function stepPicture(state) {
  const arrays = headArrays(state);
  const { queries, keys } = queriesAndKeys(state.kind);
  const { scaling, causal } = page.attention[state.kind];
  const query = rowOf(arrays.query, state.token);
  const output = rowOf(arrays.output, state.token);
  const weights = rowOf(arrays.weights, state.token).values;
  const scores = rowOf(arrays.scores, state.token);
  const scales = { query: extent(arrays.query.values), key: extent(arrays.key.values), value: extent(arrays.value.values) };
  const rows = keys.map((token, j) => {
    const hidden = causal && j > state.token;
    const value = rowOf(arrays.value, j);
    const faded = { values: value.values.map((entry) => entry * weights[j]) };
    const weight = make("td", { class: "weight number", "data-column": 5 }, make("span", { class: "bar", style: { "--share": String(weights[j]) } }), percent(weights[j]));
    return make(
      "tr",
      { class: hidden ? "masked" : undefined },
      make("th", { scope: "row" }, tokenElement(token)),
      make("td", { "data-column": 2 }, strip(rowOf(arrays.key, j), scales.key, `key of ${tokenText(token)}`)),
      make("td", { class: "number", "data-column": 3 }, written(scores.values[j] / scaling, scores.step / scaling)),
      make("td", { class: "number", "data-column": 4 }, hidden ? "−∞ (masked)" : written(scores.values[j], scores.step)),
      weight,
      make("td", { "data-column": 6 }, strip(value, scales.value, `value of ${tokenText(token)}`)),
      make("td", { "data-column": 6 }, strip(faded, scales.value, `weighted value of ${tokenText(token)}`)),
    );
  });
  const heading = (text, column) => make("th", { scope: "col", "data-column": column }, text);
  const first = Array.from(query.values.subarray(0, 6), (value) => written(value, query.step)).join("  ");
  const grid = make(
    "table",
    { class: "steps", "data-step": state.step + 1 },
    make("caption", { class: "visually-hidden" }, `Attention of ${tokenText(queries[state.token])}, layer ${state.layer + 1}, head ${state.head + 1}`),
    make("thead", {}, make("tr", {}, heading("token", 0), heading("key", 2), heading("q · k", 3), heading("÷ √dₖ", 4), heading("softmax", 5), heading("value", 6), heading("× weight", 6))),
    make("tbody", {}, ...rows),
    make(
      "tfoot",
      {},
      make("tr", {}, make("th", { scope: "row", colspan: 6, "data-column": 6 }, "their sum, the head's output z"), make("td", { "data-column": 6 }, strip(output, scales.value, "the head's output"))),
    ),
  );
  return [
    make("p", { class: "say", role: "status" }, ATTENTION_STEPS[state.step][1]),
    make("div", { class: "query", "data-column": 1 }, make("span", { class: "label" }, "query of ", tokenElement(queries[state.token])), strip(query, scales.query, `query: ${first}…`), make("span", { class: "few" }, `${first} …`)),
    scrollPanel("Attention step by step", grid, true),
    note(`dₖ is ${arrays.query.shape[1]}, its square root ${written(1 / scaling, 0.01)}. Scores ± ${roundingOf(arrays.scores)} after the division, vectors ± ${roundingOf(arrays.query, arrays.key, arrays.value)}.`),
    numbersBehind("Query, keys, values and output", () => ({
      header: ["vector", ...Array.from({ length: arrays.query.shape[1] }, (_, i) => String(i + 1))],
      rows: [
        ["query", ...Array.from(query.values, (value) => written(value, query.step))],
        ...keys.flatMap((token, j) =>
          ["key", "value"].map((name) => [`${name} of ${tokenText(token)}`, ...Array.from(rowOf(arrays[name], j).values, (value) => written(value, arrays[name].step))]),
        ),
        ["output", ...Array.from(output.values, (value) => written(value, output.step))],
      ],
    })),
  ];
}

function matrixPicture(state) {
  const arrays = headArrays(state);
  const { queries, keys } = queriesAndKeys(state.kind);
  const transposed = transpose(arrays.key);
  const block = (name, matrix, options) => {
    const shape = `${matrix.shape[0]} × ${matrix.shape[1]}`;
    const canvas = make("canvas", { class: "matrix", role: "img", "aria-label": `${name}, ${shape}` });
    paint(canvas, matrix, options?.scale ?? extent(matrix.values), options?.isWeight ?? false);
    canvas.style.setProperty("--rows", matrix.shape[0]);
    canvas.style.setProperty("--columns", matrix.shape[1]);
    return make("figure", { class: "matrix" }, canvas, make("figcaption", {}, make("b", {}, name), ` ${shape}`));
  };
  const sign = (text) => make("span", { class: "sign" }, text);
  const line = (...children) => scrollPanel("Matrices", make("div", { class: "matrices" }, ...children));
  return [
    card(
      line(sign("softmax ("), block("Q", arrays.query), sign("×"), block("Kᵀ", transposed), sign("÷ √dₖ ) ×"), block("V", arrays.value), sign("="), block("Z", arrays.output)),
      make("h3", {}, "In between: the weights, a row for each token that asks"),
      labelledMap({
        matrix: arrays.weights,
        label: `Attention weights of ${KINDS[state.kind]}, layer ${state.layer + 1}, head ${state.head + 1}`,
        rowTokens: queries,
        columnTokens: keys,
        format: percent,
      }),
      colourLegend("0", "1", true),
    ),
  ];
}

function transpose(matrix) {
  const [rows, columns] = matrix.shape;
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i += 1) for (let j = 0; j < columns; j += 1) values[j * rows + i] = matrix.values[i * columns + j];
  return { values, shape: [columns, rows], step: matrix.step };
}
