// Section 3: tokens, embeddings, and the positional encoding added to them.

function fillEmbeddings(place) {
  if (Object.keys(page.embeddings).length) {
    const strips = make("div", { class: "sum-of-strips" });
    const picker = make("div", {});
    const sides = Object.keys(page.embeddings);
    const show = (side) => {
      const tokens = side === "encoder" ? page.source.tokens : page.inputs;
      const choose = (index) => strips.replaceChildren(...embeddingOf(side, index, tokens[index]));
      picker.replaceChildren(tokenPicker("Token", tokens, 0, choose));
      choose(0);
    };
    place.append(
      make("div", { class: "controls" }, choice("Side", sides.map((side) => (side === "encoder" ? "source" : "target, shifted right")), 0, (i) => show(sides[i]))),
      card(picker, strips),
    );
    show(sides[0]);
  } else {
    place.append(absent(page.missing.embeddings ?? "This page was made without embeddings."));
  }
  place.append(...positionMaps());
}

function embeddingOf(side, index, token) {
  const { tokens, total, width } = page.embeddings[side];
  const embedding = part(readArray(tokens), index);
  const sum = part(readArray(total), index);
  const position = { values: sum.values.map((value, i) => value - embedding.values[i]), step: sum.step };
  const scale = extent(sum.values);
  const shown = embedding.values.length;
  const row = (sign, name, vector) =>
    make(
      "div",
      { class: "labelled-strip" },
      make("span", { class: "sign", "aria-hidden": "true" }, sign),
      make("span", { class: "label" }, name),
      strip(vector, scale, `${name}: ${Array.from(vector.values.subarray(0, 6), (value) => written(value, vector.step)).join(", ")}…`),
    );
  return [
    row("", `embedding of “${isolated(token)}” as it is added (token ${token.id})`, embedding),
    row("+", `encoding of position ${index}`, position),
    row("=", "what enters the first layer", sum),
    note(`${shown < width ? `The first ${shown} of ${width}` : `All ${width}`} numbers, ± ${roundingOf(sum, embedding)}; full colour is ± ${written(scale, 0.01)}.`),
    numbersBehind("Embedding, position and their sum", () => ({
      header: ["dimension", "embedding", "position", "sum"],
      rows: Array.from({ length: shown }, (_, i) => [
        String(i + 1),
        ...[embedding, position, sum].map((vector) => written(vector.values[i], vector.step)),
      ]),
    })),
  ];
}

function positionMaps() {
  if (!page.positions) return [absent(page.missing.positions ?? "This page was made without a positional encoding.")];
  const map = (title, array) => {
    const matrix = readArray(array);
    return [
      make("h3", {}, title),
      heatMap({
        matrix,
        label: `${title}, ${matrix.shape[0]} positions by ${matrix.shape[1]} dimensions`,
        rows: (i) => `position ${i}`,
        columns: (j) => `dimension ${j + 1}`,
        scale: Math.max(1, extent(matrix.values)),
        className: "positions",
      }),
    ];
  };
  const { name, values, interleaved, halves } = page.positions;
  return [
    card(...map(`In use here: ${name}`, values), colourLegend("−1", "1"), note(`Rows are positions from 0, columns are dimensions; ± ${roundingOf(readArray(values))}.`)),
    make(
      "div",
      { class: "pair" },
      card(...map("The paper: sine and cosine alternate", interleaved)),
      card(...map("Tensor2Tensor: sines, then cosines", halves)),
    ),
  ];
}
