// The table of all symbols: consolidated and per venue, live.

import { Cell, h, showState } from "./dom.js";
import { age, bps, percent, price, size } from "./format.js";
import { every, forget, redraw } from "./frame.js";
import { link } from "./link.js";
import { ALL, market, venueName } from "./market.js";
import * as ticks from "./ticks.js";

const QUOTE_RATE = 10; // more a second nobody can read
const TICKER_RATE = 1;
const COLUMNS = [
  ["Symbol", "symbol"], ["Venue", "venue"], ["Bid size", "num dim wide"], ["Bid", "num bid"], ["Ask", "num ask"],
  ["Ask size", "num dim wide"], ["Spread bps", "num bps"], ["24 h", "num change"], ["Age", "num age dim"],
  ["State", "standing"],
];

export const change24 = (ticker) =>
  ticker?.open_price && ticker.last_price !== null ? (ticker.last_price / ticker.open_price - 1) * 100 : null;

export function spreadBps(quote) {
  if (!quote || quote.bid === null || quote.ask === null) return null;
  const mid = (quote.bid + quote.ask) / 2;
  return mid > 0 ? ((quote.ask - quote.bid) / mid) * 10_000 : null;
}

/** The row that speaks for a symbol's 24 hours: the venue with the most volume. */
export function leadingTicker(symbol) {
  let found = null;
  for (const row of market.symbols.get(symbol)?.values() ?? []) {
    if (!row.ticker) continue;
    const volume = row.ticker.quote_volume ?? row.ticker.volume ?? 0;
    if (found === null || volume > (found.quote_volume ?? found.volume ?? 0)) found = row.ticker;
  }
  return found;
}

class Line {
  constructor(group, row) {
    this.group = group;
    this.row = row;
    this.tr = h("tr", { class: row.venue === ALL ? "all" : null });
    this.cells = COLUMNS.map(([, name]) => {
      const td = h("td", { class: name });
      this.tr.append(td);
      return td;
    });
    const href = `#/${encodeURIComponent(row.symbol)}`;
    this.link = h("a", { href: row.venue === ALL ? href : `${href}?venue=${row.venue}` });
    this.cells[0].append(this.link);
    this.venue = new Cell(this.cells[1]);
    this.venue.set(venueName(row.venue));
    [this.bidSize, this.bid, this.ask, this.askSize, this.bps, this.change, this.age] = this.cells
      .slice(2, 9)
      .map((td) => new Cell(td));
    this.state = new Cell(h("span"));
    this.cells[9].append(this.state.element);
    this.root = new Cell(this.tr);
    this.name = new Cell(this.link);
    this.tr.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !getSelection().toString()) location.hash = this.link.hash;
    });
  }

  draw() {
    const { row } = this;
    const { quote } = row;
    const { state, reason } = market.state(row);
    const decimals = ticks.priceDecimals(row.venue, row.symbol);
    this.bid.set(price(quote?.bid, decimals));
    this.ask.set(price(quote?.ask, decimals));
    this.bidSize.set(size(quote?.bid_size));
    this.askSize.set(size(quote?.ask_size));
    if (row.venue === ALL) {
      this.bid.attr("title", quote?.bid_venue ? `at ${quote.bid_venue}` : null);
      this.ask.attr("title", quote?.ask_venue ? `at ${quote.ask_venue}` : null);
    }
    this.bps.set(quote?.market && quote.market !== "normal" ? quote.market : bps(spreadBps(quote)));
    const ticker = row.venue === ALL ? leadingTicker(row.symbol) : row.ticker;
    const change = change24(ticker);
    this.change.set(percent(change));
    this.change.attr("class", `num change ${change > 0 ? "up" : change < 0 ? "down" : ""}`);
    if (row.venue === ALL) this.change.attr("title", ticker ? `${ticker.venue}, where most is traded` : null);
    showState(this.state, state, reason);
    this.root.attr("data-state", state);
    this.drawAge();
  }

  drawAge() {
    this.age.set(this.row.quote ? age(link.now() - this.row.quote.ts_recv / 1e6) : age(null));
  }
}

/** One symbol: a tbody with its lines. It is drawn only while it is in sight. */
class Group {
  constructor(symbol) {
    this.symbol = symbol;
    this.lines = [];
    this.body = h("tbody", { "data-symbol": symbol });
    this.inSight = false;
    this.pending = new Set();
  }

  add(line) {
    const after = this.lines.find(({ row }) => before(line.row.venue, row.venue));
    this.body.insertBefore(line.tr, after?.tr ?? null);
    this.lines.splice(after ? this.lines.indexOf(after) : this.lines.length, 0, line);
    this.lines.forEach((each, i) => {
      each.name.set(this.symbol);
      each.link.classList.toggle("again", i > 0);
    });
  }

  /** Only the ages: the rest changes with messages. */
  draw() {
    for (const line of this.lines) line.drawAge();
  }

  touch(line) {
    if (this.inSight) redraw(line);
    else this.pending.add(line);
  }

  show(inSight) {
    this.inSight = inSight;
    if (!inSight) return;
    ticks.want(this.symbol);
    for (const line of this.pending) redraw(line);
    this.pending.clear();
  }
}

const before = (a, b) => (a === ALL ? b !== ALL : b !== ALL && a < b);

/** Show the board in `root`; returns what takes it away. */
export function showBoard(root) {
  const groups = new Map();
  const lines = new Map();
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter symbols and venues" });
  const merged = h("input", { type: "checkbox", id: "merged" });
  const tally = new Cell(h("span", { class: "dim" }));
  const table = h("table", { class: "board", "aria-label": "Best bid and ask" },
    h("thead", {}, h("tr", {}, ...COLUMNS.map(([text, name]) => h("th", { scope: "col", class: name, text })))));
  const empty = h("p", { class: "empty", text: "Nothing is published yet." });
  root.append(
    h("div", { class: "tools" }, filter,
      h("label", { for: "merged" }, merged, " one line per symbol"), h("span", { class: "grow" }), tally.element),
    h("div", { class: "sheet" }, table, empty));

  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) groups.get(target.dataset.symbol)?.show(isIntersecting);
  }, { rootMargin: "200px" });

  function lineOf(row) {
    let line = lines.get(row);
    if (line) return line;
    let group = groups.get(row.symbol);
    if (!group) {
      group = new Group(row.symbol);
      const next = [...groups.keys()].filter((symbol) => symbol > row.symbol).sort()[0];
      groups.set(row.symbol, group);
      table.insertBefore(group.body, next ? groups.get(next).body : null);
      sight.observe(group.body);
      empty.hidden = true;
    }
    line = new Line(group, row);
    lines.set(row, line);
    group.add(line);
    apply(group);
    tally.set(`${groups.size} symbols, ${lines.size} rows`);
    return line;
  }

  function touch(row) {
    if (row !== null) {
      const line = lineOf(row);
      line.group.touch(line);
      if (row.ticker && lines.get(market.rows.get(`${ALL} ${row.symbol}`))) {
        const top = lines.get(market.rows.get(`${ALL} ${row.symbol}`));
        top.group.touch(top);
      }
      return;
    }
    for (const known of market.rows.values()) {
      const line = lineOf(known);
      line.group.touch(line);
    }
  }

  function apply(group) {
    const words = filter.value.trim().toUpperCase().split(/\s+/).filter(Boolean);
    for (const { row, tr } of group.lines) {
      const text = `${row.symbol} ${row.venue}`.toUpperCase();
      tr.hidden = !words.every((word) => text.includes(word)) || (merged.checked && row !== group.lines[0].row);
    }
    const first = group.lines.find(({ tr }) => !tr.hidden);
    for (const line of group.lines) line.tr.classList.toggle("first", line === first);
  }

  const applyAll = () => groups.forEach(apply);
  filter.addEventListener("input", applyAll);
  merged.addEventListener("change", applyAll);
  table.addEventListener("keydown", (event) => move(event, table));
  const stops = [
    market.watch(touch),
    ticks.onTicks((symbol) => groups.get(symbol)?.lines.forEach((line) => line.group.touch(line))),
    link.listen("error", (message) => {
      if (message.channel === "quote:*:*") empty.textContent = message.detail; // the token does not allow any
    }),
    link.want(["quote:all:*", "quote:*:*"], QUOTE_RATE),
    link.want(["ticker:*:*"], TICKER_RATE),
    every(500, () => {
      for (const group of groups.values()) if (group.inSight) redraw(group);
    }),
    () => sight.disconnect(),
    () => [...lines.values(), ...groups.values()].forEach(forget),
  ];
  touch(null);
  return () => stops.forEach((stop) => stop());
}

/** Arrow keys, Home and End go from symbol to symbol. */
function move(event, table) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, Home: -Infinity, End: Infinity }[event.key];
  if (step === undefined || !event.target.closest("a")) return;
  const links = [...table.querySelectorAll("tbody tr:not([hidden]) td.symbol a")];
  const at = links.indexOf(event.target) + step;
  links[Math.max(0, Math.min(links.length - 1, at))].focus();
  event.preventDefault();
}
