// One symbol: quotes per venue, chart, flow, depth, ladder, trades.

import { CandleChart, INTERVALS } from "./candles.js";
import { attribution } from "./chart.js";
import { change24, leadingTicker, spreadBps } from "./board.js";
import { DepthChart } from "./depthchart.js";
import { Depths } from "./book.js";
import { Cell, h, showState } from "./dom.js";
import { NONE, age, between, bps, percent, price, size } from "./format.js";
import { every, forget, redraw } from "./frame.js";
import { Flow } from "./flow.js";
import { Ladder } from "./ladder.js";
import { link } from "./link.js";
import { ALL, market, split, venueName } from "./market.js";
import * as ticks from "./ticks.js";
import { Trades } from "./trades.js";

/** The parts on show, for those who want to look under the bonnet. */
export const parts = {};

const panel = (title, name, ...children) =>
  h("section", { class: `panel ${name}`, "aria-label": title }, h("h2", { text: title }), ...children);

/** Buttons of which one is pressed. */
class Choice {
  constructor(label, options, chosen) {
    this.root = h("div", { class: "choice", role: "group", "aria-label": label });
    this.buttons = new Map();
    this.chosen = chosen;
    options.forEach((option) => this.add(option));
  }

  add(option) {
    if (this.buttons.has(option)) return;
    const button = h("button", {
      type: "button", text: venueName(option), "aria-pressed": "false", onclick: () => this.chosen(option),
    });
    this.buttons.set(option, button);
    const names = [...this.buttons.keys()];
    if (option === ALL) this.root.prepend(button);
    else this.root.append(button);
    this.root.hidden = names.length < 1;
  }

  press(option) {
    this.buttons.forEach((button, name) => button.setAttribute("aria-pressed", String(name === option)));
  }
}

/** The headline: what the symbol costs now, and its 24 hours. */
class Headline {
  constructor(root, symbol) {
    this.symbol = symbol;
    const figure = (label, name = "") => {
      const cell = new Cell(h("dd", { class: `num ${name}` }));
      return [cell, h("div", { class: name }, h("dt", { text: label }), cell.element)];
    };
    this.title = h("h1", { text: symbol });
    this.about = new Cell(h("p", { class: "dim about" }));
    this.state = new Cell(h("span"));
    const labels = ["Bid", "Ask", "Mid", "Spread bps", "24 h", "24 h high", "24 h low", "24 h volume", "Age"];
    const figures = labels.map((label) => figure(label, label === "Mid" ? "strong" : ""));
    [this.bid, this.ask, this.mid, this.bps, this.change, this.high, this.low, this.volume, this.age] =
      figures.map(([cell]) => cell);
    this.figures = h("dl", { class: "figures" }, ...figures.map(([, element]) => element));
    root.append(h("div", { class: "headline" },
      h("div", { class: "name" }, this.title, this.state.element, this.about.element), this.figures));
  }

  draw() {
    const row = this.row();
    const { state, reason } = market.state(row);
    const decimals = ticks.priceDecimals(row.venue, this.symbol);
    const quote = row.quote;
    this.bid.set(price(quote?.bid, decimals));
    this.ask.set(price(quote?.ask, decimals));
    const mid = quote && quote.bid !== null && quote.ask !== null ? (quote.bid + quote.ask) / 2 : null;
    this.mid.set(between(mid, decimals));
    this.bps.set(quote?.market && quote.market !== "normal" ? quote.market : bps(spreadBps(quote)));
    const ticker = row.venue === ALL ? leadingTicker(this.symbol) : row.ticker;
    const change = change24(ticker);
    this.change.set(percent(change));
    this.change.attr("class", `num ${change > 0 ? "up" : change < 0 ? "down" : ""}`);
    this.high.set(price(ticker?.high_price, decimals));
    this.low.set(price(ticker?.low_price, decimals));
    this.volume.set(size(ticker?.volume));
    this.age.set(quote ? age(link.now() - quote.ts_recv / 1e6) : age(null));
    showState(this.state, state, reason);
    const known = ticks.instrument(row.venue, this.symbol) ?? ticks.instrumentsOf(this.symbol)?.[0];
    const parts = known ? [known.name, known.kind, `${known.base} in ${known.quote}`] : [];
    if (known?.tick_size) parts.push(`tick ${known.tick_size}`);
    this.about.set([venueName(row.venue), ...parts.filter(Boolean)].join(" · "));
  }
}

/** The venues' quotes of this symbol, side by side; a click chooses the venue. */
class VenueQuotes {
  constructor(root, choose) {
    this.lines = new Map();
    this.choose = choose;
    this.body = h("tbody");
    root.append(h("table", { class: "quotes", "aria-label": "Best bid and ask per venue" },
      h("thead", {}, h("tr", {}, ...["Venue", "Bid", "Ask", "State"].map((text) => h("th", { scope: "col", text })))),
      this.body));
  }

  add(row) {
    if (this.lines.has(row)) return;
    const name = venueName(row.venue);
    const button = h("button", { type: "button", class: "plain", text: name, onclick: () => this.choose(row.venue) });
    const cells = ["num bid", "num ask"].map((each) => new Cell(h("td", { class: each })));
    const state = new Cell(h("span"));
    const tr = h("tr", {}, h("td", {}, button), ...cells.map((cell) => cell.element), h("td", {}, state.element));
    this.lines.set(row, { row, tr, cells, state });
    if (row.venue === ALL) this.body.prepend(tr);
    else this.body.append(tr);
  }

  draw() {
    for (const { row, tr, cells, state } of this.lines.values()) {
      const decimals = ticks.priceDecimals(row.venue, row.symbol);
      cells[0].set(price(row.quote?.bid, decimals));
      cells[1].set(price(row.quote?.ask, decimals));
      const found = market.state(row);
      showState(state, found.state, found.reason);
      tr.classList.toggle("chosen", row.venue === this.venue);
    }
  }
}

/** Measures that are prices. */
const PRICES = /^(microprice|spread|vwap_.*)$/;
const figure = (value) => (value === null ? NONE : String(Number(value.toPrecision(7))));

/** What was measured across venues; names and units are in the documentation. */
class Measures {
  constructor(root) {
    this.root = h("table", { class: "measures", "aria-label": "Measures across venues" });
    this.cells = new Map();
    root.append(this.root);
  }

  draw() {
    const quote = this.row().quote;
    const { microprice, imbalance, imbalance_n, analytics } = quote ?? {};
    const decimals = ticks.priceDecimals(ALL, this.row().symbol);
    for (const [name, value] of Object.entries({ microprice, imbalance, imbalance_n, ...analytics })) {
      if (value === undefined) continue;
      if (!this.cells.has(name)) {
        const cell = new Cell(h("td", { class: "num" }));
        this.cells.set(name, cell);
        this.root.append(h("tr", {}, h("th", { scope: "row", text: name.replaceAll("_", " ") }), cell.element));
      }
      this.cells.get(name).set(PRICES.test(name) ? between(value, decimals) : figure(value));
    }
    this.root.hidden = !analytics && imbalance === undefined;
  }
}

/** Show a symbol in `root`. `query`: venue and interval of the address. Returns what takes it away. */
export function showSymbol(root, symbol, query, go) {
  let venue = null;
  let candleVenue = null;
  let unmerged = false;
  let interval = INTERVALS.includes(query.get("interval")) ? query.get("interval") : "1m";
  let asked = query.get("venue");

  const headline = new Headline(root, symbol);
  const grid = h("div", { class: "grid" });
  root.append(grid, attribution());
  const intervals = new Choice("Interval", INTERVALS, (name) => { interval = name; settle(); });
  const venues = new Choice("Venue", [], (name) => { asked = name; settle(); });
  const [chartPanel, flowPanel, depthPanel, ladderPanel, tradesPanel, quotesPanel] = [
    panel("Candles", "p-candles"), panel("Trade flow, last 5 minutes", "p-flow"), panel("Depth", "p-depth"),
    panel("Order book", "p-ladder"), panel("Trades", "p-trades"), panel("Venues", "p-quotes"),
  ];
  const source = new Cell(h("span", { class: "dim" }));
  chartPanel.firstElementChild.append(source.element);
  chartPanel.append(intervals.root);
  ladderPanel.append(venues.root);
  grid.append(chartPanel, ladderPanel, tradesPanel, depthPanel, flowPanel, quotesPanel);
  const candles = new CandleChart(chartPanel);
  const flow = new Flow(flowPanel);
  const depthChart = new DepthChart(depthPanel);
  const ladder = new Ladder(ladderPanel);
  const trades = new Trades(tradesPanel, symbol);
  const quotes = new VenueQuotes(quotesPanel, (name) => { asked = name; settle(); });
  const measures = new Measures(quotesPanel);
  measures.row = () => market.peek(ALL, symbol);
  const depths = new Depths(symbol, [ladder, depthChart]);
  ladder.depths = depthChart.depths = depths;
  candles.onEmpty = (name) => {
    if (name !== ALL || unmerged) return;
    unmerged = true;
    queueMicrotask(settle);
  };
  Object.assign(parts, { candles, flow, depths, depthChart, trades });
  headline.row = () => market.peek(venue ?? asked ?? ALL, symbol);

  /** Bring everything to the chosen venue and interval, as far as they are known by now. */
  function settle() {
    const names = market.venuesOf(symbol);
    for (const name of names) {
      venues.add(name);
      quotes.add(market.row(name, symbol));
    }
    const chosen = names.includes(asked) ? asked : names[0] ?? null;
    if (chosen === null) return;
    // Where nobody makes consolidated candles, those of the venue where most is traded.
    const single = names.filter((name) => name !== ALL);
    const wanted = chosen === ALL && unmerged ? leadingTicker(symbol)?.venue ?? single[0] : chosen;
    if (wanted && (wanted !== candleVenue || interval !== candles.interval)) {
      if (wanted !== candleVenue) flow.show(wanted, symbol);
      candles.show(wanted, symbol, interval);
      candleVenue = wanted;
      candles.interval = interval;
    }
    source.set(candleVenue ? ` ${venueName(candleVenue)}` : "");
    venues.press(chosen);
    intervals.press(interval);
    if (chosen !== venue) {
      venue = quotes.venue = chosen;
      depths.choose(chosen);
      trades.choose(chosen);
    }
    if (asked !== null || query.get("interval") !== interval) go({ venue: asked, interval });
    [headline, quotes, measures].forEach(redraw);
  }

  ticks.want(symbol);
  const known = (row) => {
    if (row !== null && row.symbol !== symbol) return;
    if (row === null || !quotes.lines.has(row)) settle();
    [headline, quotes, measures].forEach(redraw);
  };
  const stops = [
    market.watch(known),
    ticks.onTicks((name) => name === symbol && [headline, quotes, measures, candles, ladder, depthChart].forEach(redraw)),
    link.want([`quote:all:${symbol}`, `quote:*:${symbol}`, `ticker:*:${symbol}`, `status:*:${symbol}`]),
    every(500, () => redraw(headline)),
    ...[candles, flow, depthChart, ladder, trades, depths].map((part) => () => part.stop()),
    () => [headline, quotes, measures].forEach(forget),
  ];
  settle();
  const missing = nobody(root, symbol, [grid, headline.figures, headline.state.element, headline.about.element]);
  document.title = `${symbol} · Tickwire`;
  return () => {
    missing();
    stops.forEach((stop) => stop());
    document.title = "Tickwire";
  };
}

/** Say so where nobody publishes the symbol: its pattern was acknowledged and stands for nothing. `empty`: what has
 * nothing to show then. */
function nobody(root, symbol, empty) {
  const note = h("p", { class: "empty", hidden: true });
  root.firstElementChild.after(note);
  const show = (here) => {
    note.hidden = here;
    for (const element of empty) element.hidden = !here;
  };
  const tell = () => {
    const here = market.venuesOf(symbol).length > 0;
    show(here);
    if (here) return;
    const listed = ticks.instrumentsOf(symbol)?.map((row) => row.venue) ?? [];
    note.textContent = listed.length
      ? `${symbol} is listed by ${listed.join(", ")}, but no feed here publishes it. Add it to symbols in hub.toml.`
      : `Nobody publishes ${symbol}.`;
  };
  const stops = [
    link.listen("ack", (m) => {
      if (split(m.channel)[2] === symbol && m.matched !== undefined) setTimeout(tell, 200);
    }),
    ticks.onTicks((name) => name === symbol && !note.hidden && tell()),
    market.watch((row) => row?.symbol === symbol && !note.hidden && show(true)),
  ];
  return () => stops.forEach((stop) => stop());
}
