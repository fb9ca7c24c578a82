// Section 8: the tree of partial hypotheses.

const FATES = {
  kept: "kept: it goes on",
  pruned: "pruned",
  finished: "finished",
  stopped: "active when the search ended",
};
const COLUMN = 150;
const START = 84;
const ROW = 40;

function fillBeam(place) {
  const { beam } = page;
  if (!beam) {
    place.append(absent(page.missing.beam ?? "This page was made without a beam search."));
    return;
  }
  const hypothesis = (index) => {
    const path = [];
    for (let at = index; at >= 0; at = beam.nodes[at].parent) path.unshift(beam.nodes[at]);
    return path;
  };
  const best = new Set(hypothesis(beam.best).map((node) => beam.nodes.indexOf(node)));
  const detail = make("div", { class: "card", role: "status" });
  const tree = buildTree(beam, best, (index) => detail.replaceChildren(...nodeDetail(beam, hypothesis(index), index)));
  place.append(
    note(`${beam.width === 1 ? "One hypothesis is" : `${beam.width} hypotheses are`} kept at each step. Scores of finished ones are log-probabilities divided by ${beam.penalty}. `, "Best candidates stand at the top of each column; arrow keys walk through the tree."),
    make("div", { class: "card" }, scrollPanel("The tree of the beam", tree, true), treeLegend()),
    detail,
    make("h3", {}, "Returned, best first"),
    returnedList(beam, hypothesis),
    numbersBehind("Every hypothesis", () => ({
      header: ["step", "hypothesis", "word's log-probability", "log-probability", "normalised score", "what became of it"],
      rows: beam.nodes.map((node, index) => [String(node.step), textOf(hypothesis(index)), written(node.log_probability), written(node.total), node.score === null ? "" : written(node.score), fateOf(beam, index)]),
    })),
  );
  detail.replaceChildren(...nodeDetail(beam, hypothesis(beam.best), beam.best));
}

function textOf(path) {
  return path.map((node, i) => (node.token.continues && i ? node.token.text : `${i ? " " : ""}${node.token.text}`)).join("");
}

function fateOf(beam, index) {
  if (index === beam.best) return "returned: the best";
  const { fate } = beam.nodes[index];
  return fate === "finished" && !beam.returned.includes(index) ? "finished, then displaced by better ones" : FATES[fate];
}

/** Nodes are buttons in columns, one a step, best first; links are drawn below them. */
function buildTree(beam, best, show) {
  const columns = [];
  const rows = beam.nodes.map((node) => {
    columns[node.step] ??= 0;
    columns[node.step] += 1;
    return columns[node.step] - 1;
  });
  const steps = columns.length - 1;
  const width = START + steps * COLUMN;
  const height = Math.max(1, ...columns.filter(Boolean)) * ROW + 34;
  const place = (index) => (index < 0 ? { x: 0, y: 34 } : { x: START + (beam.nodes[index].step - 1) * COLUMN, y: 34 + rows[index] * ROW });
  const links = draw("svg", { width, height, "aria-hidden": "true" });
  const order = beam.nodes.map((_, index) => index).sort((a, b) => best.has(a) - best.has(b));
  for (const index of order) {
    const [from, to] = [place(beam.nodes[index].parent), place(index)];
    const wide = beam.nodes[index].parent < 0 ? START : COLUMN;
    const [x1, y1, x2, y2] = [from.x + wide - 16, from.y + 15, to.x, to.y + 15];
    const kind = best.has(index) ? "best" : beam.nodes[index].fate;
    links.append(draw("path", { d: `M${x1} ${y1} C${x1 + 10} ${y1} ${x2 - 10} ${y2} ${x2} ${y2}`, class: `link ${kind}` }));
  }
  const tree = make("div", { class: "tree", style: { width: `${width}px`, height: `${height}px` } }, links);
  const put = (element, { x, y }) => {
    element.style.setProperty("left", `${x}px`);
    element.style.setProperty("top", `${y}px`);
    return element;
  };
  for (let step = 1; step <= steps; step += 1) tree.append(put(make("span", { class: "step-name" }, `step ${step}`), { x: START + (step - 1) * COLUMN, y: 4 }));
  tree.append(put(make("span", { class: "node start" }, tokenElement(page.inputs[0])), place(-1)));
  const nodes = beam.nodes.map((node, index) => {
    const label = `${tokenText(node.token)}, step ${node.step}, ${fateOf(beam, index)}, log-probability ${written(node.total, 0.01)}`;
    const score = node.score === null ? written(node.total, 0.01) : `★ ${written(node.score, 0.01)}`;
    const kind = [node.fate, best.has(index) ? "best" : ""].join(" ");
    return put(make("button", { type: "button", class: `node ${kind}`, "aria-label": label, "data-node": index, focus: () => show(index), click: () => show(index), pointerenter: () => show(index) }, tokenElement(node.token), make("small", {}, score)), place(index));
  });
  walkWithArrows(nodes, beam, rows, beam.best);
  tree.append(...nodes);
  return tree;
}

function walkWithArrows(nodes, beam, rows, first) {
  nodes.forEach((node, index) => {
    node.tabIndex = index === first ? 0 : -1;
    node.addEventListener("keydown", (event) => {
      const at = beam.nodes[index];
      const nearest = (step) => beam.nodes.findIndex((other) => other.parent === index && other.step === step);
      const beside = (move) => beam.nodes.findIndex((other, i) => other.step === at.step && rows[i] === rows[index] + move);
      const next = { ArrowLeft: () => at.parent, ArrowRight: () => nearest(at.step + 1), ArrowUp: () => beside(-1), ArrowDown: () => beside(1) }[event.key]?.();
      if (next === undefined) return;
      event.preventDefault();
      if (next < 0) return;
      node.tabIndex = -1;
      nodes[next].tabIndex = 0;
      nodes[next].focus();
    });
  });
}

function nodeDetail(beam, path, index) {
  const node = beam.nodes[index];
  const facts = [
    ["what became of it", fateOf(beam, index)],
    ["probability of its last word", percent(Math.exp(node.log_probability))],
    ["log-probability", written(node.total)],
    ...(node.score === null ? [] : [["normalised score", written(node.score)]]),
    ...(index === beam.best ? [["score that generate returned", written(beam.score)]] : []),
  ];
  return [
    make("p", { class: "hypothesis" }, make("bdi", {}, textOf(path))),
    make("dl", { class: "facts" }, ...facts.map(([label, value]) => make("div", {}, make("dt", {}, label), make("dd", {}, value)))),
  ];
}

function treeLegend() {
  const item = (kind, words) => make("span", { class: "key" }, make("span", { class: `node sample ${kind}`, "aria-hidden": "true" }, "word"), words);
  return make("p", { class: "legend" }, item("best", "on the returned path"), item("kept", "kept"), item("finished", "★ finished"), item("pruned", "pruned"));
}

function returnedList(beam, hypothesis) {
  return scrollPanel(
    "Returned hypotheses",
    table("Returned hypotheses, best first", ["", "hypothesis", "tokens", "log-probability", "normalised score"], beam.returned.map((index, rank) => {
      const path = hypothesis(index);
      return [String(rank + 1), make("bdi", { class: "whole" }, textOf(path)), String(path.length), written(beam.nodes[index].total), written(beam.nodes[index].score)];
    })),
  );
}
