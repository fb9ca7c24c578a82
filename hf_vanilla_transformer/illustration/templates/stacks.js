// Section 2: the two stacks, what a layer is made of, and what leaves it.

function fillStacks(place) {
  const counts = { encoder: page.attention.encoder.layers.length, decoder: page.attention.decoder.layers.length };
  const detail = make("div", { class: "card", "aria-live": "polite" });
  const buttons = { encoder: [], decoder: [] };
  const choose = (side, index) => {
    for (const name of Object.keys(buttons)) {
      buttons[name].forEach((button, i) => button.setAttribute("aria-pressed", String(name === side && i === index)));
    }
    detail.replaceChildren(...layerDetail(side, index));
  };
  const stack = (side) => {
    buttons[side] = Array.from({ length: counts[side] }, (_, i) =>
      make("button", { type: "button", class: "storey", "aria-pressed": "false", click: () => choose(side, i) }, `${side} layer ${i + 1}`),
    );
    const isEncoder = side === "encoder";
    const tokens = isEncoder ? page.source.tokens : page.inputs;
    return make(
      "div",
      { class: `stack ${side}` },
      make("p", { class: "end" }, isEncoder ? "keys and values for every decoder layer" : "linear, softmax: the next word"),
      ...buttons[side].slice().reverse(),
      make("p", { class: "end" }, isEncoder ? "embeddings + positions" : "embeddings + positions, shifted right"),
      make("p", { class: "end words" }, make("bdi", {}, tokens.map(tokenText).join(" "))),
    );
  };
  const wires = draw("svg", { class: "wires", "aria-hidden": "true" });
  const building = make("div", { class: "building" }, stack("encoder"), wires, stack("decoder"));
  new ResizeObserver(() => drawWires(wires, building, buttons)).observe(building);
  place.append(scrollPanel("Encoder and decoder stacks", building), detail);
  choose("encoder", 0);
}

/** From the top of the encoder to each layer of the decoder. */
function drawWires(wires, building, buttons) {
  const frame = wires.getBoundingClientRect();
  const top = building.querySelector(".encoder .end").getBoundingClientRect();
  const start = top.top + top.height / 2 - frame.top;
  const middle = frame.width / 2;
  wires.replaceChildren(
    ...buttons.decoder.flatMap((button) => {
      const box = button.getBoundingClientRect();
      const end = box.top + box.height / 2 - frame.top;
      const path = `M0 ${start} H${middle - 6} Q${middle} ${start} ${middle} ${start + Math.sign(end - start) * 6} V${end - Math.sign(end - start) * 6} Q${middle} ${end} ${middle + 6} ${end} H${frame.width - 7}`;
      return [
        draw("path", { d: path, class: "wire" }),
        draw("path", { d: `M${frame.width - 8} ${end - 4} l7 4 l-7 4 z`, class: "tip" }),
      ];
    }),
  );
}

function layerDetail(side, index) {
  const facts = new Map(page.facts);
  const heads = page.attention[side].layers[index].weights.shape[0];
  const parts =
    side === "encoder"
      ? [["self-attention", `${heads} heads look at the whole sentence`]]
      : [
          ["masked self-attention", `${heads} heads look at what is written so far`],
          ["encoder-decoder attention", "queries from here, keys and values from the encoder's top"],
        ];
  parts.push(["feed-forward network", `each token alone, through ${facts.get("feed-forward width, d_ff") ?? "the inner"} neurons`]);
  const layer = page.layers[side]?.[index];
  const children = [
    make("h3", {}, `${side[0].toUpperCase()}${side.slice(1)} layer ${index + 1}`),
    make(
      "ol",
      { class: "parts" },
      ...parts.map(([name, what]) => make("li", {}, make("b", {}, name), make("span", {}, what), make("i", {}, "add & norm"))),
    ),
  ];
  if (layer) {
    const last = layer.stages[layer.stages.length - 1];
    const matrix = readArray(last.values);
    const tokens = side === "encoder" ? page.source.tokens : page.inputs;
    const cut = matrix.shape[1] < last.width ? `, the first ${matrix.shape[1]} of ${last.width} numbers` : "";
    children.push(
      note(`${layer.parameters.toLocaleString("en")} parameters. What leaves it, a row for each token${cut} (± ${roundingOf(matrix)}):`),
      heatMap({
        matrix,
        label: `Output of ${side} layer ${index + 1}`,
        rows: (i) => isolated(tokens[i]),
        columns: (j) => `dimension ${j + 1}`,
        className: "rows",
      }),
    );
  }
  return children;
}
