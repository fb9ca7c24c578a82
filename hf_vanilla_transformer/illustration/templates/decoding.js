// Section 7: at each output position the logits, the softmax, greedy's choice, and where the decoder looks.

function fillDecoding(place) {
  const last = page.steps.length - 1;
  const state = { step: 0, layer: page.attention.cross.layers.length - 1 };
  const slider = make("input", { type: "range", min: 0, max: last, value: 0, step: 1, "aria-label": "Step of decoding" });
  const button = (label, move) => make("button", { type: "button", click: () => go(state.step + move) }, label);
  const [back, on] = [button("← back", -1), button("next →", 1)];
  const written_ = make("p", { class: "so-far", role: "status" });
  const picture = make("div", {});
  const go = (step) => {
    state.step = Math.max(0, Math.min(last, step));
    slider.value = state.step;
    slider.setAttribute("aria-valuetext", `step ${state.step + 1} of ${last + 1}: ${tokenText(page.steps[state.step].chosen.token)}`);
    back.disabled = state.step === 0;
    on.disabled = state.step === last;
    written_.replaceChildren(...soFar(state.step));
    picture.replaceChildren(...decodingStep(state));
  };
  slider.addEventListener("input", () => go(Number(slider.value)));
  const panel = make("div", { class: "card decoding" }, make("div", { class: "player" }, back, slider, on), written_, picture);
  panel.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move || event.target === slider || event.target.closest("select, .scroll, canvas")) return;
    event.preventDefault();
    go(state.step + move);
  });
  place.append(
    make("div", { class: "controls" }, numberList("Attention of decoder layer", page.attention.cross.layers.length, state.layer, (layer) => {
      state.layer = layer;
      go(state.step);
    })),
    panel,
    numbersBehind("All steps", () => ({
      header: ["step", "written", "probability", "logit", "greedy's choice", "second", "its probability"],
      rows: page.steps.map((step, i) => {
        const [first, second] = step.candidates;
        return [String(i + 1), tokenText(step.chosen.token), percent(step.chosen.probability), written(step.chosen.logit, 0.01), tokenText(first.token), second ? tokenText(second.token) : "", second ? percent(second.probability) : ""];
      }),
    })),
  );
  go(0);
}

function soFar(step) {
  const before = page.inputs.slice(0, page.inputs.length - page.steps.length + step + 1);
  return [
    make("span", { class: "label" }, `Step ${step + 1} of ${page.steps.length}. Written so far: `),
    ...before.flatMap((token) => [tokenElement(token), " "]),
    make("span", { class: "label" }, "→ "),
    make("b", {}, tokenElement(page.steps[step].chosen.token)),
  ];
}

function decodingStep({ step, layer }) {
  const { candidates, chosen, rest, others, histogram, lowest, highest } = page.steps[step];
  const greedy = candidates[0].token.id;
  const bar = (name, probability, logit, marks) =>
    make(
      "li",
      { class: marks.length ? "marked" : undefined },
      make("span", { class: "name" }, name, ...marks.map((mark) => make("em", {}, mark))),
      make("span", { class: "logit" }, logit),
      make("span", { class: "track" }, make("span", { class: "fill", style: { "--share": String(probability) } })),
      make("span", { class: "share" }, percent(probability)),
    );
  const bars = candidates.map((candidate) => {
    const marks = [];
    if (candidate.token.id === greedy) marks.push("greedy");
    if (candidate.token.id === chosen.token.id) marks.push("written");
    return bar(tokenElement(candidate.token), candidate.probability, written(candidate.logit, 0.01), marks);
  });
  bars.push(bar(`${others.toLocaleString("en")} others`, rest, "", []));
  const same = greedy === chosen.token.id;
  return [
    make(
      "div",
      { class: "pair" },
      make(
        "div",
        {},
        make("h3", {}, "Softmax: the likeliest words"),
        make("p", { class: "bars-head", "aria-hidden": "true" }, make("span", {}, "word"), make("span", {}, "logit"), make("span", {}, "probability")),
        make("ol", { class: "bars" }, ...bars),
        note(same ? "Greedy decoding would write the same word." : "Greedy decoding would write another word here: beam search found a likelier whole.", " Probabilities ± 0.0005, logits ± 0.005."),
      ),
      make("div", {}, make("h3", {}, "Logits of the whole vocabulary"), logitHistogram(histogram, lowest, highest, chosen), make("h3", {}, "Where this step looks in the source"), ...crossBars(step, layer)),
    ),
  ];
}

function logitHistogram(counts, lowest, highest, chosen) {
  const [width, height] = [320, 110];
  const most = Math.log1p(Math.max(...counts));
  const place = (logit) => ((logit - lowest) / (highest - lowest || 1)) * width;
  const bars = counts.map((count, i) => {
    const tall = (Math.log1p(count) / most) * (height - 24);
    return draw("rect", { x: (i * width) / counts.length, y: height - 18 - tall, width: width / counts.length - 1, height: tall, class: "count" });
  });
  const x = place(chosen.logit);
  const label = `${counts.reduce((sum, count) => sum + count, 0).toLocaleString("en")} logits from ${written(lowest, 0.1)} to ${written(highest, 0.1)}; the written word has ${written(chosen.logit, 0.1)}`;
  const svg = draw(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img", "aria-label": label },
    ...bars,
    draw("line", { x1: x, x2: x, y1: 4, y2: height - 18, class: "written" }),
    draw("text", { x: 0, y: height - 4 }, written(lowest, 0.1)),
    draw("text", { x: width, y: height - 4, "text-anchor": "end" }, written(highest, 0.1)),
  );
  return make("figure", { class: "heat" }, svg, make("figcaption", { class: "note" }, `${label}. Heights are logarithmic; the line is the written word.`));
}

function crossBars(step, layer) {
  const weights = readArray(page.attention.cross.layers[layer].weights);
  const row = page.inputs.length - page.steps.length + step;
  const heads = weights.shape[0];
  const means = page.source.tokens.map((_, j) => {
    let sum = 0;
    for (let head = 0; head < heads; head += 1) sum += part(weights, head, row).values[j];
    return sum / heads;
  });
  const tokens = page.source.tokens.map((token, j) => {
    const item = make("li", { "data-weight": means[j] }, tokenElement(token), make("span", {}, percent(means[j])));
    tint(item);
    return item;
  });
  return [make("ol", { class: "looked-at", "aria-label": "Mean of the heads" }, ...tokens), note(`Mean of the ${heads} heads of decoder layer ${layer + 1}.`)];
}
