// Section 9: what training compares, position by position, and a soft word alignment.

function fillTraining(place) {
  const { training } = page;
  if (!training) {
    place.append(
      make("p", { class: "absent" }, "This page was made without a target. ", make("code", {}, "--target \"...\""), ", or ", make("code", {}, "illustrate(..., target=\"...\")"), ", adds a translation to compare with."),
    );
    return;
  }
  const state = { position: 0 };
  const detail = make("div", { role: "status" });
  const show = (position) => {
    state.position = position;
    detail.replaceChildren(...positionDetail(training, position));
  };
  place.append(
    note("Rows are the positions of the target, columns its words and all other words together. Training moves the model's map towards that of the target."),
    ...targetMaps(training),
    make("h3", {}, "One position"),
    card(tokenPicker("Position", training.tokens, 0, show), detail),
    make("h3", {}, "Every position, in nats"),
    lossTable(training),
    ...alignmentMap(training),
  );
  show(0);
}

function targetMaps(training) {
  const { columns, tokens, smoothing, vocabulary } = training;
  const width = columns.length + 1;
  const matrix = (cell) => {
    const values = new Float32Array(tokens.length * width);
    tokens.forEach((token, i) => {
      let rest = 1;
      columns.forEach((column, j) => {
        values[i * width + j] = cell(i, j, column.id === token.id);
        rest -= values[i * width + j];
      });
      values[i * width + columns.length] = Math.max(0, rest);
    });
    return { values, shape: [tokens.length, width], step: 1e-4 };
  };
  const small = smoothing / vocabulary;
  const maps = [
    ["Target, one-hot", matrix((i, j, isWanted) => (isWanted ? 1 : 0))],
    ["Before training", matrix((i, j) => training.untrained[i].columns[j])],
    [`Target, smoothed by ${smoothing}`, matrix((i, j, isWanted) => (isWanted ? 1 - smoothing + small : small))],
    ["This model", matrix((i, j) => training.trained[i].columns[j])],
  ];
  return [
    make(
      "div",
      { class: "pair targets" },
      ...maps.map(([title, values]) =>
        card(
          make("h3", {}, title),
          labelledMap({
            matrix: values,
            label: title,
            rowTokens: tokens,
            columnTokens: [...columns, { text: "others", continues: false }],
            format: (value) => written(value, 1e-4),
          }),
        ),
      ),
    ),
    colourLegend("0", "1", true),
  ];
}

function positionDetail(training, position) {
  const bars = (title, guess) =>
    make(
      "div",
      {},
      make("h3", {}, title),
      make(
        "ol",
        { class: "bars" },
        ...guess.candidates.map((candidate) => {
          const wanted = candidate.token.id === training.tokens[position].id;
          return make(
            "li",
            { class: wanted ? "marked" : undefined },
            make("span", { class: "name" }, tokenElement(candidate.token), wanted ? make("em", {}, "wanted") : null),
            make("span", { class: "logit" }),
            make("span", { class: "track" }, make("span", { class: "fill", style: { "--share": String(candidate.probability) } })),
            make("span", { class: "share" }, percent(candidate.probability)),
          );
        }),
      ),
      note(`The wanted word has ${percent(Math.exp(guess.log_probability))}, log-probability ${written(guess.log_probability)}.`),
    );
  return [make("div", { class: "pair" }, bars("Before training", training.untrained[position]), bars("This model", training.trained[position]))];
}

function lossTable(training) {
  const mean = (guesses, read) => guesses.reduce((sum, guess) => sum + read(guess), 0) / guesses.length;
  const plain = (guess) => -guess.log_probability;
  const columns = [
    ["log-probability", (i) => training.trained[i].log_probability, mean(training.trained, (guess) => guess.log_probability)],
    ["cross-entropy, one-hot", (i) => plain(training.trained[i]), mean(training.trained, plain)],
    ["cross-entropy, smoothed", (i) => training.trained[i].smoothed_cross_entropy, mean(training.trained, (guess) => guess.smoothed_cross_entropy)],
    ["KL, smoothed", (i) => training.trained[i].smoothed_kl, mean(training.trained, (guess) => guess.smoothed_kl)],
    ["before training: cross-entropy", (i) => plain(training.untrained[i]), mean(training.untrained, plain)],
    ["before training: KL, smoothed", (i) => training.untrained[i].smoothed_kl, mean(training.untrained, (guess) => guess.smoothed_kl)],
  ];
  const rows = training.tokens.map((token, i) => [tokenElement(token), ...columns.map(([, read]) => written(read(i)))]);
  rows.push(["mean", ...columns.map(([, , value]) => written(value))]);
  const grid = table("Losses by position", ["word", ...columns.map(([name]) => name)], rows);
  grid.classList.add("losses");
  return make(
    "div",
    {},
    scrollPanel("Losses by position", grid, true),
    note("Against the one-hot target cross-entropy and KL divergence are the same number, since its entropy is zero; against the smoothed one they differ by its entropy, which no model can go below."),
  );
}

function alignmentMap(training) {
  if (!training.alignment) return [];
  const all = readArray(training.alignment);
  const layers = all.shape[0];
  const holder = make("div", {});
  const mean = () => {
    const size = all.values.length / layers;
    const values = new Float32Array(size);
    for (let i = 0; i < all.values.length; i += 1) values[i % size] += all.values[i] / layers;
    return { values, shape: all.shape.slice(1), step: all.step };
  };
  const show = (index) => {
    const matrix = index === 0 ? mean() : part(all, index - 1);
    const words = (list) => list.map((text) => ({ text, continues: false }));
    holder.replaceChildren(
      labelledMap({
        matrix,
        label: "Word alignment",
        rowTokens: words(training.target_words),
        columnTokens: words(training.source_words),
        format: percent,
      }),
    );
  };
  const names = ["mean of all", ...Array.from({ length: layers }, (_, i) => `layer ${i + 1}`)];
  show(0);
  return [
    make("h3", {}, "Which source word each target word comes from"),
    note("Encoder-decoder attention, mean of the heads, tokens joined to words: a soft alignment, better in some layers than in others."),
    make("div", { class: "controls" }, choice("Decoder layer", names, 0, show)),
    card(holder),
  ];
}
