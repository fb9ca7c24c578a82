// Sections are filled one after another, the screen painted in between; then theme, contents and printing.

const SECTIONS = [
  ["black-box", fillOverview],
  ["stacks", fillStacks],
  ["embeddings", fillEmbeddings],
  ["self-attention", fillAttentionSteps],
  ["layer", fillLayer],
  ["heads", fillHeads],
  ["decoding", fillDecoding],
  ["beam", fillBeam],
  ["training", fillTraining],
];

function fillNext(rest) {
  if (!rest.length) {
    document.documentElement.dataset.ready = "true";
    return;
  }
  const [[id, fill], ...others] = rest;
  fill(document.querySelector(`#${id} .picture`));
  setTimeout(() => fillNext(others));
}

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const THEMES = ["system", "light", "dark"];
let theme = "system";

function applyTheme(name = theme) {
  const dark = name === "dark" || (name === "system" && systemIsDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  repaintAll();
}

function setUpTheme() {
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    button.textContent = theme === "system" ? "Theme: as the system" : `Theme: ${theme}`;
    applyTheme();
  });
  systemIsDark.addEventListener("change", () => applyTheme());
  window.addEventListener("beforeprint", () => applyTheme("light"));
  window.addEventListener("afterprint", () => applyTheme());
  applyTheme();
}

/** Marks the section in view in the contents. */
function setUpContents() {
  const links = new Map([...document.querySelectorAll("nav.contents a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link, id) => {
          if (id === entry.target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        });
      }
    },
    { rootMargin: "-30% 0px -65% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

function setUpWords() {
  const quoted = (text) => make("b", {}, "“", make("bdi", {}, onOneLine(text)), "”");
  document.getElementById("lead").append(quoted(page.source.text), " becomes ", quoted(page.target.text), ".");
  const shown = page.layers.encoder?.[0]?.stages[0];
  const cut = shown && shown.values.shape[1] < shown.width ? ` Only the first ${shown.values.shape[1]} of ${shown.width} numbers of each vector are shown.` : "";
  document.getElementById("rounding").textContent =
    "All numbers are this model's own, from one pass over this sentence, rounded to whole steps so that the page stays " +
    `small; each section says by how much they can be off.${cut}`;
}

setUpTheme();
setUpWords();
setUpContents();
fillNext(SECTIONS);
