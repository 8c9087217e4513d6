// What is known of every symbol at every venue: newest quote and ticker, and how good they are.
// The rules for states are the gateway's own (hub/venues.py): no pulse means down, else the worst of the venue's and
// the symbol's status that is about the kind.

import { get } from "./rest.js";
import { link } from "./link.js";
import { every } from "./frame.js";

export const ALL = "all";

/** A venue as people read it. */
export const venueName = (venue) => (venue === ALL ? "consolidated" : venue);

const SEVERITY = { live: 0, stale: 1, resyncing: 2, down: 3 };
const VENUES_MS = 5000;
const DOUBT_MS = 150;
const DOUBTS_MAX = 500;
const worse = (a, b) => (SEVERITY[b.state] > SEVERITY[a.state] ? b : a);
const LIVE = { state: "live", reason: "" };

/** One symbol at one venue. `ack`: what the gateway last said of its quote, until a status says more. */
export class Row {
  constructor(venue, symbol) {
    this.venue = venue;
    this.symbol = symbol;
    this.quote = null;
    this.ticker = null;
    this.ack = null;
  }
}

class Market {
  rows = new Map(); // "venue symbol" -> Row
  symbols = new Map(); // symbol -> Map venue -> Row
  venues = new Map(); // venue -> the gateway's view of it, newest answer of /v1/venues
  #verdicts = new Map(); // venue -> {state, reason, at}
  #statuses = new Map(); // "venue symbol" -> status
  #watchers = new Set();
  #doubtful = new Set();
  #joining = null;

  start() {
    link.addEventListener("change", () => this.#linkChanged());
    for (const [type, method] of Object.entries({
      quote: "quote", ticker: "ticker", ack: "ack", status: "status", gap: "other", trade: "other", depth: "other",
    })) link.listen(type, (message) => this[`take_${method}`](message));
    link.want(["status:*:*"]);
    every(VENUES_MS, () => {
      this.refreshVenues();
      for (const row of this.rows.values()) if (doubtful(row)) this.#askFor(row);
    });
  }

  /** Call `watcher(row)` whenever something of a row changed, with null when it may be all of them. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  row(venue, symbol) {
    const key = `${venue} ${symbol}`;
    let row = this.rows.get(key);
    if (row === undefined) {
      row = new Row(venue, symbol);
      this.rows.set(key, row);
      if (!this.symbols.has(symbol)) this.symbols.set(symbol, new Map());
      this.symbols.get(symbol).set(venue, row);
    }
    return row;
  }

  /** The row as far as there is one; else an empty one that nobody else sees. */
  peek(venue, symbol) {
    return this.rows.get(`${venue} ${symbol}`) ?? new Row(venue, symbol);
  }

  /** Venues that have a symbol, the consolidated one first. */
  venuesOf(symbol) {
    const names = [...(this.symbols.get(symbol)?.keys() ?? [])];
    return names.sort((a, b) => (b === ALL) - (a === ALL) || a.localeCompare(b));
  }

  /** State and reason of one kind of a row; `present`: there is a value. */
  state(row, kind = "quote", present = row.quote !== null) {
    if (link.state !== "open") {
      return link.state === "connecting" || link.state === "asleep"
        ? { state: "connecting", reason: "" }
        : { state: "down", reason: "no connection to the gateway" };
    }
    const verdict = this.#verdicts.get(row.venue);
    const status = this.#statuses.get(`${row.venue} ${row.symbol}`);
    let found = verdict ?? row.ack;
    if (!found) return { state: "connecting", reason: "" };
    if (row.ack) found = worse(found, row.ack);
    if (status && (affects(status, kind) || !present)) found = worse(found, status);
    if (!present && found.state === "live") return { state: "resyncing", reason: "there is no value at the moment" };
    return found;
  }

  verdict(venue) {
    return link.state === "open" ? this.#verdicts.get(venue) : undefined;
  }

  take_quote(message) {
    const row = this.row(message.venue, message.symbol);
    const joined = this.#joining === `quote:${message.venue}:${message.symbol}`;
    this.#joining = null;
    row.quote = message;
    if (!joined && row.ack && row.ack.state !== "live") this.#askFor(row);
    this.#changed(row);
  }

  take_ticker(message) {
    const row = this.row(message.venue, message.symbol);
    row.ticker = message;
    this.#changed(row);
  }

  take_other() {
    this.#joining = null;
  }

  take_ack(message) {
    const [kind, venue, symbol] = split(message.channel);
    this.#joining = message.channel;
    if (kind !== "quote" || venue === "*" || symbol === "*" || message.op !== "subscribe") return;
    // Of a name that was asked for outright nobody knows yet whether it exists.
    const row = message.pattern ? this.row(venue, symbol) : this.rows.get(`${venue} ${symbol}`);
    if (row === undefined) return;
    row.ack = { state: message.state, reason: message.reason ?? "" };
    this.#changed(row);
  }

  take_status(message) {
    const channel = `status:${message.venue}:${message.symbol}`;
    const old = this.#joining === channel; // what the feed said once; whether it has a pulse, /v1/venues says
    this.#joining = null;
    if (message.symbol === "*") {
      if (old) return;
      this.#verdicts.set(message.venue, { state: message.state, reason: message.reason, at: Date.now() });
      this.refreshVenues();
    } else {
      this.#statuses.set(`${message.venue} ${message.symbol}`, message);
    }
    const about = this.rows.get(`${message.venue} ${message.symbol}`);
    for (const row of message.symbol === "*" ? this.rows.values() : about ? [about] : []) {
      if (row.venue !== message.venue) continue;
      // The feed withdrew what came out of the book; it must not be shown any longer.
      const withdrawn = row.symbol === message.symbol && (message.kind === null || message.kind === "book");
      if (message.state !== "live" && withdrawn) row.quote = null;
      if (row.symbol === message.symbol) row.ack = null;
      if (message.state === "live" && doubtful(row)) this.#askFor(row);
      this.#changed(row);
    }
  }

  /** Have the gateway say how a quote is, with others, soon. What did not come out of a book was not withdrawn. */
  #askFor(row) {
    if (this.#doubtful.size === 0) setTimeout(() => this.#askAll(), DOUBT_MS);
    this.#doubtful.add(row);
  }

  async #askAll() {
    const rows = new Set([...this.#doubtful].filter(doubtful).slice(0, DOUBTS_MAX));
    this.#doubtful.clear();
    if (link.state !== "open" || rows.size === 0) return;
    const symbols = [...new Set([...rows].map((row) => row.symbol))].join(",");
    const { items } = await get("/v1/quotes", { symbols }).catch(() => ({ items: [] }));
    if (link.state !== "open") return;
    for (const view of items.flatMap(({ quotes }) => quotes)) {
      const row = this.rows.get(`${view.venue} ${view.symbol}`);
      if (!rows.has(row)) continue;
      if (row.quote === null && view.id !== null) row.quote = view;
      row.ack = { state: view.state, reason: view.reason };
      this.#changed(row);
    }
  }

  /** Ask for /v1/venues, or wait for the answer that is on its way. */
  async refreshVenues() {
    if (link.state !== "open") return;
    this.#asking ??= this.#askVenues().finally(() => { this.#asking = null; });
    await this.#asking;
  }

  async #askVenues() {
    const began = Date.now();
    try {
      const { venues } = await get("/v1/venues");
      for (const view of venues) {
        this.venues.set(view.venue, { ...view, at: Date.now() });
        const known = this.#verdicts.get(view.venue);
        if (known && known.at >= began) continue; // a status that came meanwhile is newer
        this.#verdicts.set(view.venue, { state: view.state, reason: view.reason, at: began });
        if (!known || known.state !== view.state || known.reason !== view.reason) this.#changed(null);
      }
      this.dispatch();
    } catch (error) {
      if (!(error instanceof Error)) throw error; // asked again in a while
    }
  }

  #asking = null;
  #listeners = new Set();

  /** Call `listener()` whenever /v1/venues was answered. */
  onVenues(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  dispatch() {
    for (const listener of this.#listeners) listener();
  }

  #linkChanged() {
    // What was true on the last connection is learnt anew on the next; old values stand there, marked, until then.
    if (link.state !== "open") {
      this.#verdicts.clear();
      this.#statuses.clear();
      for (const row of this.rows.values()) row.ack = null;
    } else {
      for (const row of this.rows.values()) row.quote = null;
      this.refreshVenues();
    }
    this.#changed(null);
  }

  #changed(row) {
    for (const watcher of this.#watchers) watcher(row);
  }
}

/** Whether the gateway should be asked: it said that something is wrong, or there is no value. */
const doubtful = (row) => row.quote === null || (row.ack !== null && row.ack.state !== "live");

function affects(status, kind) {
  return status.kind === null || status.kind === kind || (status.kind === "book" && kind === "depth");
}

/** Kind, venue and symbol of a channel's name. */
export function split(name) {
  const [kind, venue, ...symbol] = name.split(":");
  return [kind, venue, symbol.join(":")];
}

export const market = new Market();
