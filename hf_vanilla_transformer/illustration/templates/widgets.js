// Small parts that all sections are built of. Text from outside becomes text nodes, never markup.

/** An element: `set` holds attributes, `class`, `style` (an object), and listeners as functions. */
function make(tag, set = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(set)) {
    if (value === undefined || value === false || value === null) continue;
    if (name === "style") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The same in SVG, without listeners. */
function draw(tag, set = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(set)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** A token's text as it is shown in plain text; a combining mark gets a circle to stand on. */
function tokenText(token) {
  const text = /^\p{M}/u.test(token.text) ? `◌${token.text}` : token.text;
  return token.continues ? `‿${text}` : text;
}

/** A token inside a longer text, so that its direction ends with it (Unicode's isolates). */
function isolated(token) {
  return `\u2068${tokenText(token)}\u2069`;
}

/** A sentence on one line: a paragraph separator would end an isolate, and the text after it would turn round. */
function onOneLine(text) {
  return text.replace(/[\n\r\u0085\u2028\u2029]/g, " ");
}

/** A token, kept apart from the direction of the text around it. */
function tokenElement(token) {
  return make("bdi", { class: "token", title: tokenText(token) }, tokenText(token));
}

/** Several buttons of which one is chosen; the arrow keys move the choice. */
function radioGroup(container, buttons, selected, choose) {
  const select = (index, focus) => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === index));
      button.tabIndex = i === index ? 0 : -1;
    });
    if (focus) buttons[index].focus();
    choose(index);
  };
  const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  buttons.forEach((button, index) => {
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(index === selected));
    button.tabIndex = index === selected ? 0 : -1;
    button.addEventListener("click", () => select(index, false));
    button.addEventListener("keydown", (event) => {
      const last = buttons.length - 1;
      let next = null;
      if (event.key in moves) next = (index + moves[event.key] + buttons.length) % buttons.length;
      if (event.key === "Home") next = 0;
      if (event.key === "End") next = last;
      if (next === null) return;
      event.preventDefault();
      select(next, true);
    });
  });
  container.setAttribute("role", "radiogroup");
  return container;
}

/** A few named choices as buttons. */
function choice(label, names, selected, choose) {
  const buttons = names.map((name) => make("button", { type: "button" }, name));
  const group = radioGroup(make("div", { "aria-label": label }, ...buttons), buttons, selected, choose);
  return make("div", { class: "choice" }, make("span", { class: "label", "aria-hidden": "true" }, label), group);
}

/** A sentence of which one token is chosen. */
function tokenPicker(label, tokens, selected, choose) {
  const buttons = tokens.map((token) => make("button", { type: "button" }, tokenElement(token)));
  const group = radioGroup(make("div", { class: "tokens", "aria-label": label }, ...buttons), buttons, selected, choose);
  return make("div", { class: "choice" }, make("span", { class: "label", "aria-hidden": "true" }, label), group);
}

/** A number chosen from 1 to `count`, in a list. */
function numberList(label, count, selected, choose) {
  const options = Array.from({ length: count }, (_, i) => {
    const option = make("option", { value: i }, String(i + 1));
    option.selected = i === selected;
    return option;
  });
  const list = make("select", { change: (event) => choose(Number(event.target.value)) }, ...options);
  return make("label", {}, label, list);
}

/** A panel that scrolls by itself, reachable by keyboard. */
function scrollPanel(label, child, tall = false) {
  return make("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": label }, child);
}

/** A table; cells are text, or elements; numbers stand on the right. */
function table(caption, header, rows) {
  const cell = (content, tag, scope) => {
    const isNumber = typeof content === "string" && /^[<>]?\s?[−-]?[\d.,]+(\s?%)?$/.test(content);
    return make(tag, { class: isNumber ? "number" : undefined, scope }, content);
  };
  return make(
    "table",
    {},
    make("caption", { class: "visually-hidden" }, caption),
    make("thead", {}, make("tr", {}, ...header.map((content) => cell(content, "th", "col")))),
    make(
      "tbody",
      {},
      ...rows.map(([first, ...rest]) =>
        make("tr", {}, cell(first, "th", "row"), ...rest.map((content) => cell(content, "td"))),
      ),
    ),
  );
}

/** The numbers behind a picture, written out when somebody asks for them. */
function numbersBehind(caption, build) {
  const details = make("details", { class: "numbers" }, make("summary", {}, `${caption}, as a table`));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) {
      const { header, rows, note } = build();
      details.append(scrollPanel(caption, table(caption, header, rows)));
      if (note) details.append(make("p", { class: "note" }, note));
    }
  });
  return details;
}

function note(...children) {
  return make("p", { class: "note" }, ...children);
}

function absent(text) {
  return make("p", { class: "absent" }, text);
}

function card(...children) {
  return make("div", { class: "card" }, ...children);
}

const SIDES = { encoder: "encoder", decoder: "decoder" };
const KINDS = {
  encoder: "encoder self-attention",
  decoder: "decoder self-attention",
  cross: "encoder-decoder attention",
};

/** Tokens that ask and tokens that are looked at, of a kind of attention. */
function queriesAndKeys(kind) {
  return {
    queries: kind === "encoder" ? page.source.tokens : page.inputs,
    keys: kind === "decoder" ? page.inputs : page.source.tokens,
  };
}
