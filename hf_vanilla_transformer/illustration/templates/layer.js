// Section 5: one layer from inside, stage by stage, for one token.

const STAGES = {
  input: () => ["x", "what comes in"],
  heads: (stage, layer) => ["Concat", `the ${layer.heads} heads of ${stage.sublayer}, side by side`],
  projected: () => ["× Wᴼ", "mixed into one vector of the model's width"],
  sum: (stage) => ["+", `the residual connection: ${stage.sublayer} is added to what came in`],
  norm: (stage, layer) => ["LayerNorm", `mean ${written(stage.mean[layer.token], 0.01)} and deviation ${written(stage.deviation[layer.token], 0.01)} removed, then a learned gain and bias`],
  inner: (stage, layer) => ["W₁", `the feed-forward network's inner layer: ${stage.active[layer.token].toLocaleString("en")} of ${stage.width.toLocaleString("en")} neurons are not zero`],
  output: () => ["× W₂", "back to the model's width"],
};

function fillLayer(place) {
  const sides = Object.keys(page.layers);
  if (!sides.length) {
    place.append(absent(page.missing.layers ?? "This page was made without the stages of layers."));
    return;
  }
  const state = { side: sides[0], layer: 0, token: 0 };
  const lists = make("div", { class: "controls" });
  const picker = make("div", {});
  const flow = make("ol", { class: "flow" });
  const behind = make("div", {});
  const update = () => {
    const layer = page.layers[state.side][state.layer];
    flow.replaceChildren(...layer.stages.map((stage) => stageElement(stage, state)));
    behind.replaceChildren(stageNotes(layer), stageTable(layer, state));
  };
  const setSide = (side) => {
    Object.assign(state, { side, layer: 0, token: 0 });
    const tokens = side === "encoder" ? page.source.tokens : page.inputs;
    lists.replaceChildren(numberList("Layer", page.layers[side].length, 0, (value) => { state.layer = value; update(); }));
    picker.replaceChildren(tokenPicker("Token", tokens, 0, (value) => { state.token = value; update(); }));
    update();
  };
  place.append(
    make("div", { class: "controls" }, choice("Side", sides, 0, (i) => setSide(sides[i])), lists),
    card(picker, flow, behind),
  );
  setSide(sides[0]);
}

function stageElement(stage, state) {
  const vector = part(readArray(stage.values), state.token);
  const kind = stage.sublayer === "encoder-decoder attention" ? "cross" : state.side;
  const heads = page.attention[kind].layers[state.layer].weights.shape[0];
  const [operation, words] = STAGES[stage.kind](stage, { ...state, heads });
  const few = stage.kind === "inner" ? largestOf(vector) : Array.from(vector.values.subarray(0, 5), (value) => written(value, vector.step)).join("  ");
  const canvas = strip(vector, extent(vector.values), `${operation}, ${words}: ${few}…`);
  const bar = make("div", { class: "bar-of-heads" }, canvas);
  if (stage.kind === "heads") {
    const shown = Math.round((heads * vector.values.length) / stage.width);
    bar.style.setProperty("--heads", String(Math.max(1, shown)));
    bar.classList.add("divided");
  }
  return make(
    "li",
    { class: `stage ${stage.kind}` },
    make("span", { class: "operation" }, operation),
    make("div", { class: "body" }, make("span", { class: "label" }, words), bar, make("span", { class: "few" }, `${few} …`)),
  );
}

/** Of a vector that is mostly zero: its largest numbers, and where they are. */
function largestOf(vector) {
  const order = Array.from(vector.values.keys()).sort((a, b) => Math.abs(vector.values[b]) - Math.abs(vector.values[a]));
  return order.slice(0, 3).map((i) => `neuron ${i + 1}: ${written(vector.values[i], vector.step)}`).join("  ");
}

function stageNotes(layer) {
  const arrays = layer.stages.map((stage) => readArray(stage.values));
  const cut = layer.stages.filter((stage) => readArray(stage.values).shape[1] < stage.width);
  const shown = cut.length ? ` Of the longer vectors the first ${readArray(cut[0].values).shape[1]} numbers are shown.` : "";
  return note(`Each strip has its own scale: its largest number is full colour, blue below zero, orange above. Numbers ± ${roundingOf(...arrays)}.${shown}`);
}

function stageTable(layer, state) {
  return numbersBehind("All stages of this token", () => {
    const vectors = layer.stages.map((stage) => part(readArray(stage.values), state.token));
    const longest = Math.max(...vectors.map((vector) => vector.values.length));
    return {
      header: ["dimension", ...layer.stages.map((stage) => [stage.kind, stage.sublayer].filter(Boolean).join(", "))],
      rows: Array.from({ length: longest }, (_, i) => [
        String(i + 1),
        ...vectors.map((vector) => (i < vector.values.length ? written(vector.values[i], vector.step) : "")),
      ]),
    };
  });
}
