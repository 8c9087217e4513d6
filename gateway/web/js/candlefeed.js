// Candles of one venue, symbol and interval: history from REST, joined to the stream.
//
// Without a hole: the closed candles' channel is acknowledged first, REST is asked second, so that a candle is in one
// or both of them. The later revision of a candle wins, and a closed one over one that was still forming. Where trades
// may have been missed an open candle goes: if it is whole it is told again, else nobody would ever correct it.

import { get } from "./rest.js";
import { link } from "./link.js";
import { ALL, market } from "./market.js";

export class CandleFeed {
  /** `changed(bar)` is called with each bar that is new or different, with null when all of them may be. */
  constructor(venue, symbol, interval, limit, changed) {
    Object.assign(this, { venue, symbol, interval, limit, changed });
    this.bars = new Map(); // start in s -> bar
    this.note = "loading";
    this.#venues = market.peek(ALL, symbol).quote?.venues?.join();
    this.#channel = `candle.${interval}:${venue}:${symbol}`;
    this.#stops = [
      link.listen(`candle.${interval}`, (m) => this.#take(m, true)),
      link.listen(`forming.${interval}`, (m) => this.#take(m, false)),
      link.listen("ack", (m) => m.channel === this.#channel && m.op === "subscribe" && this.#acked()),
      link.listen("status", (m) => this.#about(m) && (m.state !== "live" || m.kind === "trade") && this.#dropOpen()),
      link.listen("quote", (m) => m.venue === ALL && this.#about(m) && this.#counted(m.venues)),
      link.listen("gap", (m) => m.channel === this.#channel && this.#load()),
      link.listen("error", (m) => m.channel === this.#channel && this.#fail(m.detail)),
      link.want([this.#channel, `forming.${interval}:${venue}:${symbol}`]),
    ];
    if (link.ack(this.#channel)) this.#load();
  }

  #channel;
  #venues; // those that counted last, of venue `all`
  #stops;
  #abort = new AbortController();

  stop() {
    this.#stops.forEach((stop) => stop());
    this.#abort.abort();
  }

  /** All bars, oldest first. */
  sorted() {
    return [...this.bars.values()].sort((a, b) => a.time - b.time);
  }

  #about({ venue, symbol }) {
    return venue === this.venue && (symbol === this.symbol || symbol === "*");
  }

  /** Consolidated candles miss trades whenever a venue comes or goes. */
  #counted(venues) {
    const names = venues?.join();
    if (this.#venues !== undefined && names !== this.#venues) this.#dropOpen();
    this.#venues = names;
  }

  #dropOpen() {
    const open = [...this.bars.values()].filter((bar) => !bar.closed);
    for (const bar of open) this.bars.delete(bar.time);
    if (open.length > 0) this.changed(null);
  }

  #acked() {
    this.#dropOpen();
    // A channel that was continued brings what was missed itself, unless the first history never came.
    if (!link.resumes(this.#channel) || this.note !== "") this.#load();
  }

  #fail(detail) {
    this.note = detail;
    this.changed(null);
  }

  async #load() {
    this.#abort.abort();
    this.#abort = new AbortController();
    try {
      const path = `/v1/candles/${encodeURIComponent(this.symbol)}`;
      const query = { venue: this.venue, interval: this.interval, limit: this.limit };
      const { venues } = await get(path, query, this.#abort.signal);
      for (const candle of venues[0]?.candles ?? []) this.#put(candle, true);
      this.note = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note = error.message;
    }
    this.changed(null);
  }

  #take(message, closed) {
    if (message.venue !== this.venue || message.symbol !== this.symbol) return;
    const bar = this.#put(message, closed);
    if (bar !== null) this.changed(bar);
  }

  /** Keep a candle; null where what is known is as good. */
  #put(candle, closed) {
    const time = Math.round(candle.start / 1e9);
    const known = this.bars.get(time);
    if (known?.closed && (!closed || known.revision > candle.revision)) return null;
    const bar = {
      time, closed, revision: candle.revision,
      open: candle.open, high: candle.high, low: candle.low, close: candle.close, volume: candle.volume,
      buy: candle.buy_volume, sell: candle.sell_volume,
    };
    this.bars.set(time, bar);
    if (this.bars.size > 2 * this.limit) this.#trim();
    return bar;
  }

  #trim() {
    const times = [...this.bars.keys()].sort((a, b) => a - b);
    for (const time of times.slice(0, times.length - this.limit)) this.bars.delete(time);
    this.changed(null);
  }
}
