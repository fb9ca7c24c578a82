// Section 1: the black box.

function fillOverview(place) {
  const sentence = (label, text) =>
    make("div", { class: "sentence" }, make("p", { class: "label" }, label), make("p", { class: "words" }, make("bdi", {}, text || "(nothing)")));
  const facts = new Map(page.facts);
  const box = make(
    "div",
    { class: "blackbox" },
    make("p", { class: "name" }, make("bdi", {}, page.model)),
    make("p", {}, `${facts.get("parameters") ?? "?"} parameters`),
  );
  place.append(
    make(
      "div",
      { class: "through" },
      sentence("The sentence", page.source.text),
      make("span", { class: "arrow", "aria-hidden": "true" }, "→"),
      box,
      make("span", { class: "arrow", "aria-hidden": "true" }, "→"),
      sentence("Its translation", page.target.text),
    ),
    make("dl", { class: "facts" }, ...page.facts.map(([label, value]) => make("div", { class: value.length > 24 ? "wide" : undefined }, make("dt", {}, label), make("dd", {}, value)))),
  );
}
