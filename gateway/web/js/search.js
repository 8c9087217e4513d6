// The search field: what venues list, wherever it is typed. Arrow keys choose, Enter opens, Escape closes.

import { h } from "./dom.js";
import { link } from "./link.js";
import { get } from "./rest.js";

const WAIT_MS = 180;
const SHOWN = 12;
const ASKED = 60;

export function startSearch() {
  const input = document.getElementById("search");
  const list = document.getElementById("found");
  let abort = new AbortController();
  let timer = null;
  let chosen = -1;

  function close() {
    clearTimeout(timer);
    abort.abort();
    list.hidden = true;
    list.replaceChildren();
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    const options = [...list.children];
    if (options.length === 0) return;
    chosen = (index + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === chosen)));
    options[chosen].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[chosen].id);
  }

  function open(hash) {
    close();
    input.value = "";
    input.blur();
    location.hash = hash;
  }

  function option(hash, i, ...children) {
    return h("li", {
      role: "option", id: `found-${i}`, "aria-selected": "false", "data-hash": hash,
      onpointerdown: (event) => { event.preventDefault(); open(hash); },
    }, ...children);
  }

  async function ask() {
    const text = input.value.trim();
    abort.abort();
    if (text === "" || link.state !== "open") return close();
    abort = new AbortController();
    let page;
    try {
      page = await get("/v1/instruments", { text, limit: ASKED }, abort.signal);
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(h("li", { class: "dim", text: error.message }));
      return;
    }
    const bySymbol = new Map();
    for (const row of page.items) bySymbol.set(row.symbol, [...(bySymbol.get(row.symbol) ?? []), row]);
    const upper = text.toUpperCase();
    const rank = (symbol) => (symbol === upper ? 0 : symbol.startsWith(upper) ? 1 : 2);
    const symbols = [...bySymbol.keys()].sort((a, b) => rank(a) - rank(b) || a.length - b.length || a.localeCompare(b));
    const options = symbols.slice(0, SHOWN).map((symbol, i) => {
      const rows = bySymbol.get(symbol);
      return option(`#/${encodeURIComponent(symbol)}`, i, h("b", { text: symbol }), " ",
        h("span", { class: "dim", text: `${rows[0].kind} · ${rows.map((row) => row.venue).join(", ")}` }));
    });
    const more = `#/instruments?text=${encodeURIComponent(text)}`;
    const all = page.total === 0 ? "Nothing is listed under that" : `All ${page.total} listings`;
    options.push(option(more, options.length, h("span", { class: "dim", text: all })));
    list.replaceChildren(...options);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    choose(0);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
      event.preventDefault();
    } else if (event.key === "Enter") {
      const hash = list.children[chosen]?.dataset.hash;
      if (hash) open(hash);
      else ask();
    } else if (event.key === "Escape") {
      input.value = "";
      close();
      input.blur();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, dialog")) return;
    event.preventDefault();
    input.focus();
  });
}
