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
      link.listen("ack", (m) => m.op === "subscribe" && this.#about(m, (venue) => this.#acked(m.channel, venue))),
      link.listen("gap", (m) => this.#about(m, (venue) => this.#load(venue))),
      link.want([`trade:*:${symbol}`]),
    ];
  }

  #stops;
  #own = new Map(); // channel -> release
  #loaded = new Map(); // venue -> the connection on which it was
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

  /** Call `act(venue)` where a message is about one of the channels shown here. */
  #about({ channel }, act) {
    const [kind, venue, symbol] = split(channel);
    if (kind === "trade" && symbol === this.symbol && venue !== "*") act(venue);
  }

  // The stream is there: what came before it is asked for now, so that nothing is between the two. A channel that was
  // continued brings that itself; only one that is subscribed by its own name can be.
  #acked(channel, venue) {
    if (!this.#own.has(channel)) this.#own.set(channel, link.want([channel]));
    const known = this.#loaded.get(venue);
    this.#loaded.set(venue, link.session);
    if (known === link.session || (known !== undefined && link.resumes(channel))) return;
    this.#load(venue);
  }

  async #load(venue) {
    try {
      const path = `/v1/trades/${encodeURIComponent(this.symbol)}`;
      const { venues } = await get(path, { venue, limit: SHOWN }, this.#abort.signal);
      const found = venues.flatMap(({ trades }) => trades.map((trade) => ({ ...trade, venue })));
      // What the stream brought meanwhile may be newer than the answer: both, each once. Nothing older is kept: there
      // may be a hole before the answer.
      const first = found[0]?.id;
      const kept = this.all.filter((trade) => trade.venue !== venue || !first || compare(trade.id, first) > 0);
      const merged = new Map([...found, ...kept].map((trade) => [`${trade.venue} ${trade.id}`, trade]));
      this.seen.clear();
      this.all = [];
      this.fresh = [];
      this.body.replaceChildren();
      this.#add([...merged.values()].sort((a, b) => a.ts_recv - b.ts_recv || compare(a.id, b.id)));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#loaded.delete(venue);
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
