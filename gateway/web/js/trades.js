// Recent trades of a symbol at all venues. What was missed while the link was away comes afterwards, in order.

import { h } from "./dom.js";
import { clock, price, size } from "./format.js";
import { forget, redraw } from "./frame.js";
import { link } from "./link.js";
import { ALL, split } from "./market.js";
import { get } from "./rest.js";
import * as ticks from "./ticks.js";

const SHOWN = 40;
const HEAD = ["UTC", "Venue", "Side", "Price", "Size"];

export class Trades {
  constructor(root, symbol) {
    this.symbol = symbol;
    this.seen = new Map(); // venue -> newest position shown
    this.fresh = [];
    this.venue = null;
    this.count = 0;
    this.all = [];
    this.body = h("tbody");
    this.note = h("p", { class: "note", text: "no trades yet" });
    root.append(h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Recent trades" },
      h("table", { class: "trades", "aria-label": "Recent trades" },
        h("thead", {}, h("tr", {}, ...HEAD.map((text) => h("th", { scope: "col", text })))), this.body), this.note));
    this.#stops = [
      link.listen("trade", (m) => m.symbol === symbol && this.#add([m])),
      link.listen("ack", (m) => this.#acked(m)),
      link.listen("gap", (m) => m.channel.startsWith("trade:") && split(m.channel)[2] === symbol && this.#load()),
      link.want([`trade:*:${symbol}`]),
    ];
    this.#load();
  }

  #stops;
  #own = new Map(); // channel -> release
  #abort = new AbortController();

  stop() {
    forget(this);
    this.#stops.forEach((stop) => stop());
    this.#own.forEach((release) => release());
    this.#abort.abort();
  }

  /** Show trades of one venue, of all where it is the consolidated one. */
  choose(venue) {
    if (venue === this.venue) return;
    this.venue = venue;
    this.body.replaceChildren();
    this.fresh = [...this.all];
    redraw(this);
  }

  // A channel subscribed by its own name can be continued behind its last id; one of a pattern cannot.
  #acked(message) {
    const [kind, venue, symbol] = split(message.channel);
    if (kind !== "trade" || symbol !== this.symbol || venue === "*" || message.op !== "subscribe") return;
    if (!this.#own.has(message.channel)) this.#own.set(message.channel, link.want([message.channel]));
  }

  async #load() {
    try {
      const path = `/v1/trades/${encodeURIComponent(this.symbol)}`;
      const { venues } = await get(path, { limit: SHOWN }, this.#abort.signal);
      const found = venues.flatMap(({ venue, trades }) => trades.map((trade) => ({ ...trade, venue })));
      // What the stream brought meanwhile may be newer than the answer: both, each once.
      const merged = new Map([...found, ...this.all].map((trade) => [`${trade.venue} ${trade.id}`, trade]));
      this.seen.clear();
      this.all = [];
      this.fresh = [];
      this.body.replaceChildren();
      this.#add([...merged.values()].sort((a, b) => a.ts_recv - b.ts_recv || compare(a.id, b.id)));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.textContent = error.message;
    }
  }

  #add(trades) {
    for (const trade of trades) {
      const seen = this.seen.get(trade.venue);
      if (seen && compare(trade.id, seen) <= 0) continue;
      this.seen.set(trade.venue, trade.id);
      this.count += 1;
      this.all.push(trade);
      this.fresh.push(trade);
    }
    if (this.all.length > 4 * SHOWN) this.all.splice(0, this.all.length - 2 * SHOWN);
    redraw(this);
  }

  draw() {
    const fresh = this.fresh.filter(({ venue }) => !this.venue || this.venue === ALL || this.venue === venue);
    this.fresh = [];
    for (const trade of fresh.slice(-SHOWN)) {
      // The oldest row becomes the newest.
      const row = this.body.rows.length >= SHOWN ? this.body.lastElementChild : line();
      const { cells } = row;
      const side = trade.side ?? "–";
      row.className = trade.side ?? "";
      const at = (trade.ts_event ?? trade.ts_recv) / 1e6;
      const texts = [clock(at), trade.venue, side, price(trade.price, ticks.priceDecimals(trade.venue, this.symbol)),
        size(trade.size)];
      texts.forEach((text, i) => { cells[i].textContent = text; });
      this.body.prepend(row);
    }
    this.note.hidden = this.body.rows.length > 0;
  }
}

const line = () => h("tr", {}, ...HEAD.map((_, i) => h("td", { class: ["dim", "dim", "side", "num", "num"][i] })));

/** Positions `<epoch>-<seq>` compare as two numbers. */
export function compare(a, b) {
  const [epochA, seqA] = a.split("-").map(Number);
  const [epochB, seqB] = b.split("-").map(Number);
  return epochA - epochB || seqA - seqB;
}
