// What venues list, with filters that stand in the address.

import { Cell, h } from "./dom.js";
import { NONE, count, decimalsOf, price } from "./format.js";
import { link } from "./link.js";
import { market } from "./market.js";
import { get } from "./rest.js";

const KINDS = ["spot", "perpetual", "future", "option", "equity"];
const LIMIT = 100;
const step = (value) => price(value, value === null ? 0 : decimalsOf(value));
const WAIT_MS = 250;
const HEAD = ["Symbol", "Venue", "Venue's name", "Kind", "Base", "Quote", "Tick", "Lot", "Status", "Here"];
const NUMBERS = new Set([6, 7]); // of these columns

export function showInstruments(root, query, go) {
  const field = (name, label) =>
    h("input", { type: "search", name, placeholder: label, "aria-label": label, value: query.get(name) });
  const select = (name, label, options) => h("select", { name, "aria-label": label },
    h("option", { value: "", text: label }),
    ...options.map((value) => h("option", { value, text: value, selected: query.get(name) === value })));
  const form = h("form", { class: "tools", role: "search" },
    field("text", "Symbol, name or venue's spelling"), field("base", "Base"), field("quote", "Quote"),
    select("kind", "Any kind", KINDS), select("venue", "Any venue", [...market.venues.keys()].sort()));
  const tally = new Cell(h("p", { class: "dim", role: "status" }));
  const body = h("tbody");
  const head = HEAD.map((text, i) => h("th", { scope: "col", class: NUMBERS.has(i) ? "num" : null, text }));
  const more = h("button", { type: "button", text: "More", hidden: true });
  root.append(h("h1", { class: "page", text: "Instruments" }), form, tally.element,
    h("div", { class: "sheet scroll" },
      h("table", { class: "listing", "aria-label": "Instruments" },
        h("thead", {}, h("tr", {}, ...head)),
        body)),
    more);

  let abort = new AbortController();
  let timer = null;
  let cursor = null;

  const values = () => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));

  async function load(next = null) {
    if (link.state !== "open") return;
    abort.abort();
    abort = new AbortController();
    try {
      const page = await get("/v1/instruments", { ...values(), cursor: next, limit: LIMIT }, abort.signal);
      if (next === null) body.replaceChildren();
      body.append(...page.items.map(line));
      cursor = page.next;
      more.hidden = cursor === null;
      tally.set(`${count(page.total)} listings${page.total > body.rows.length ? `, ${body.rows.length} shown` : ""}`);
    } catch (error) {
      if (error.name === "AbortError") return;
      body.replaceChildren();
      more.hidden = true;
      tally.set(error.message);
    }
  }

  const changed = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      go(values());
      load();
    }, WAIT_MS);
  };
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  more.addEventListener("click", () => load(cursor));
  const venues = form.elements.venue;
  const stopVenues = market.onVenues(() => {
    for (const name of [...market.venues.keys()].sort()) {
      if (![...venues.options].some((option) => option.value === name)) {
        venues.append(h("option", { value: name, text: name, selected: query.get("venue") === name }));
      }
    }
  });
  const opened = async () => {
    if (link.state !== "open") return;
    await market.refreshVenues();
    load();
  };
  link.addEventListener("change", opened);
  opened();
  document.title = "Instruments · Tickwire";
  return () => {
    abort.abort();
    clearTimeout(timer);
    stopVenues();
    link.removeEventListener("change", opened);
    document.title = "Tickwire";
  };
}

function line(row) {
  const here = market.venues.get(row.venue)?.feed?.symbols.includes(row.symbol);
  const address = `#/${encodeURIComponent(row.symbol)}?venue=${encodeURIComponent(row.venue)}`;
  const texts = [row.venue, row.venue_symbol, row.kind, row.base, row.quote, step(row.tick_size), step(row.lot_size),
    row.status, here ? "published" : NONE];
  return h("tr", {}, h("td", {}, h("a", { href: address, text: row.symbol })),
    ...texts.map((text, i) => h("td", { class: NUMBERS.has(i + 1) ? "num" : null, text: String(text) })));
}
