// Section 6: all heads of one layer, as lines between tokens, and how they divide the work for one token.

const FAINTEST = 0.04; // weights below this are not drawn: they would only grey the picture

function fillHeads(place) {
  const kinds = Object.keys(KINDS).filter((kind) => page.attention[kind]);
  const state = { kind: kinds[0], layer: 0, on: [], query: 0, key: null, held: false };
  const lists = make("div", { class: "controls" });
  const switches = make("div", { class: "switches", role: "group", "aria-label": "Heads" });
  const weave = make("div", { class: "weave" });
  const heading = make("h3", {});
  const grid = scrollPanel("Weights by head", "");
  const list = make("div", {});
  const behind = make("div", {});
  let lines = null;
  // pointing at tokens refills what is there: an opened table stays open, and what has the focus keeps it
  const redraw = () => {
    lines.repaint();
    const work = divisionOfWork(state);
    heading.replaceChildren(...work.heading);
    grid.replaceChildren(work.grid);
    list.replaceChildren(...work.list);
  };
  const rebuild = () => {
    const heads = page.attention[state.kind].layers[state.layer].weights.shape[0];
    state.on = Array.from({ length: heads }, () => true);
    switches.replaceChildren(...headSwitches(state, redraw));
    lines = buildWeave(weave, state, redraw);
    behind.replaceChildren(everyWeight(state));
    redraw();
  };
  const setKind = (kind) => {
    const { queries } = queriesAndKeys(kind);
    Object.assign(state, { kind, layer: page.attention[kind].layers.length - 1, query: Math.min(1, queries.length - 1), key: null });
    lists.replaceChildren(numberList("Layer", page.attention[kind].layers.length, state.layer, (layer) => {
      state.layer = layer;
      rebuild();
    }));
    rebuild();
  };
  place.append(
    make("div", { class: "controls" }, choice("Kind", kinds.map((kind) => KINDS[kind]), 0, (i) => setKind(kinds[i])), lists),
    switches,
    make("div", { class: "pair" }, card(scrollPanel("Lines between tokens", weave, true)), card(heading, grid, list, behind)),
  );
  setKind(kinds[0]);
}

function headSwitches(state, redraw) {
  const buttons = state.on.map((_, head) => {
    const button = make("button", { type: "button", class: "switch", "aria-pressed": "true", "data-head": head, style: { "--head": headColour(head) } }, `head ${head + 1}`);
    button.addEventListener("click", () => {
      state.on[head] = !state.on[head];
      button.setAttribute("aria-pressed", String(state.on[head]));
      redraw();
    });
    return button;
  });
  const all = (on) => () => {
    state.on.fill(on);
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(on)));
    redraw();
  };
  return [...buttons, make("button", { type: "button", click: all(true) }, "all"), make("button", { type: "button", click: all(false) }, "none")];
}

/** Two columns of tokens with a canvas between them; hovering, focus and a click choose a token. */
function buildWeave(weave, state, redraw) {
  const { queries, keys } = queriesAndKeys(state.kind);
  const canvas = make("canvas", { class: "lines", role: "img", "aria-label": "Lines from tokens to those they attend to; the table beside says the same in numbers" });
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      mark();
      redraw();
    });
  };
  const pick = (side, index) => () => {
    state.query = side === "query" ? index : state.query;
    state.key = side === "key" ? index : null;
    soon();
  };
  const column = (side, tokens) => {
    const buttons = tokens.map((token, index) =>
      make("button", { type: "button", pointerenter: pick(side, index), focus: pick(side, index), click: pick(side, index) }, tokenElement(token)),
    );
    buttons.forEach((button, index) => {
      button.tabIndex = index === (side === "query" ? state.query : 0) ? 0 : -1;
      button.addEventListener("keydown", (event) => {
        const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!move || !buttons[index + move]) return;
        event.preventDefault();
        button.tabIndex = -1;
        buttons[index + move].tabIndex = 0;
        buttons[index + move].focus();
      });
    });
    return make("div", { class: `column ${side}`, role: "group", "aria-label": side === "query" ? "Tokens that attend" : "Tokens attended to" }, ...buttons);
  };
  const columns = { query: column("query", queries), key: column("key", keys) };
  const mark = () => {
    [...columns.query.children].forEach((button, i) => button.classList.toggle("chosen", state.key === null && i === state.query));
    [...columns.key.children].forEach((button, i) => button.classList.toggle("chosen", i === state.key));
  };
  weave.replaceChildren(columns.query, make("div", { class: "gap" }, canvas), columns.key);
  canvas.repaint = () => drawLines(canvas, columns, state);
  canvas.observer = new ResizeObserver(() => canvas.repaint());
  canvas.observer.observe(weave);
  mark();
  return canvas;
}

function drawLines(canvas, columns, state) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  const density = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = width * density;
  canvas.height = height * density;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  const middles = (column) => Array.from(column.children, (button) => button.offsetTop + button.offsetHeight / 2);
  const [left, right] = [middles(columns.query), middles(columns.key)];
  const weights = readArray(page.attention[state.kind].layers[state.layer].weights);
  const chosen = (i, j) => (state.key === null ? i === state.query : j === state.key);
  for (const front of [false, true]) {
    state.on.forEach((on, head) => {
      if (!on) return;
      const matrix = part(weights, head);
      context.strokeStyle = headColour(head);
      context.setLineDash(head >= 8 ? [5, 3] : []);
      for (let i = 0; i < left.length; i += 1) {
        for (let j = 0; j < right.length; j += 1) {
          const weight = matrix.values[i * right.length + j];
          if (weight < FAINTEST || chosen(i, j) !== front) continue;
          context.globalAlpha = front ? 0.3 + 0.7 * weight : 0.3 * weight;
          context.lineWidth = front ? 0.75 + 4 * weight : 0.75 + weight;
          // heads side by side, so that equal lines do not hide each other
          const shift = (head - (state.on.length - 1) / 2) * Math.min(2.2, 14 / state.on.length);
          context.beginPath();
          context.moveTo(0, left[i] + shift);
          context.bezierCurveTo(width * 0.45, left[i] + shift, width * 0.55, right[j] + shift, width, right[j] + shift);
          context.stroke();
        }
      }
    });
  }
  context.globalAlpha = 1;
}

/** For the token that asks: each head, where it looks, and over how many tokens it spreads. */
function divisionOfWork(state) {
  const { queries, keys } = queriesAndKeys(state.kind);
  const weights = readArray(page.attention[state.kind].layers[state.layer].weights);
  const asks = state.key === null;
  const others = asks ? keys : queries;
  const chosen = asks ? queries[state.query] : keys[state.key];
  const row = (head) => {
    const matrix = part(weights, head);
    if (asks) return part(matrix, state.query).values;
    return Float32Array.from(queries, (_, i) => matrix.values[i * keys.length + state.key]);
  };
  const heads = state.on.flatMap((on, head) => (on ? [head] : []));
  const rows = heads.map((head) => {
    const values = row(head);
    const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
    const cells = Array.from(values, (weight, j) => {
      const cell = make("td", { class: "cell", "data-weight": weight, title: `${tokenText(others[j])}: ${percent(weight)}` }, weight >= 0.01 ? String(Math.round(weight * 100)) : "");
      tint(cell);
      return cell;
    });
    const best = order.slice(0, 2).map((j) => onOneLine(`${isolated(others[j])} ${percent(values[j])}`)).join(", ");
    return { head, best, cells, spread: Math.exp(-values.reduce((sum, weight) => sum + (weight > 0 ? weight * Math.log(weight) : 0), 0)) };
  });
  const swatch = (head) => make("span", { class: "swatch", "data-head": head, style: { "--head": headColour(head) }, "aria-hidden": "true" });
  const header = make("tr", {}, make("th", { scope: "col" }, "head"), ...others.map((token) => make("th", { scope: "col", class: "upright" }, tokenElement(token))));
  const grid = make(
    "table",
    { class: "division" },
    make("caption", { class: "visually-hidden" }, `Weights of each head for ${tokenText(chosen)}, in percent`),
    make("thead", {}, header),
    make("tbody", {}, ...rows.map(({ head, cells }) => make("tr", {}, make("th", { scope: "row" }, swatch(head), String(head + 1)), ...cells))),
  );
  const list = [
    make(
      "ul",
      { class: "work" },
      ...rows.map(({ head, best, spread }) => make("li", {}, swatch(head), make("span", {}, make("b", {}, `Head ${head + 1}: `), make("bdi", {}, best), asks ? make("span", { class: "soft" }, ` · spread over ${written(spread, 0.1)} tokens`) : null))),
    ),
    note(`Weights ± ${roundingOf(weights)}. Spread is the exponential of the entropy: 1 looks at a single token. Lines below ${Math.round(FAINTEST * 100)} % are left out.${page.attention[state.kind].causal ? " The mask hides every later token." : ""}`),
  ];
  return {
    heading: [asks ? "What " : "Who looks at ", tokenElement(chosen), asks ? " attends to, in percent" : ", in percent"],
    grid: heads.length ? grid : note("All heads are switched off."),
    list,
  };
}

function everyWeight({ kind, layer }) {
  const { queries, keys } = queriesAndKeys(kind);
  const weights = readArray(page.attention[kind].layers[layer].weights);
  const heads = Array.from({ length: weights.shape[0] }, (_, head) => head);
  return numbersBehind("Every weight of this layer", () => ({
    header: ["head", "attends", ...keys.map((token, j) => `${j + 1} ${tokenText(token)}`)],
    rows: heads.flatMap((head) =>
      queries.map((token, i) => [`${head + 1}`, tokenText(token), ...Array.from(part(weights, head, i).values, (value) => written(value, weights.step))]),
    ),
  }));
}
