// The instruments' steps of price and size, asked for in batches as symbols come into sight.

import { decimalsOf } from "./format.js";
import { get } from "./rest.js";
import { link } from "./link.js";

const BATCH = 200;
const rows = new Map(); // "venue symbol" -> instrument
const symbols = new Map(); // symbol -> instruments
const wanted = new Set();
const listeners = new Set();
let timer = null;

/** Ask for a symbol's instruments, unless they are known. */
export function want(symbol) {
  if (symbols.has(symbol) || wanted.has(symbol)) return;
  wanted.add(symbol);
  plan();
}

/** Call `listener(symbol)` when instruments came. */
export function onTicks(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** What venues list under a symbol; undefined until it is known. */
export const instrumentsOf = (symbol) => symbols.get(symbol);
export const instrument = (venue, symbol) => rows.get(`${venue} ${symbol}`);

/** Decimals of prices: the venue's tick; across venues, or where one gives none, the finest known; else 0. */
export function priceDecimals(venue, symbol) {
  const tick = instrument(venue, symbol)?.tick_size;
  if (tick) return decimalsOf(tick);
  return Math.max(0, ...(symbols.get(symbol) ?? []).map((row) => (row.tick_size ? decimalsOf(row.tick_size) : 0)));
}

function plan() {
  if (timer === null && wanted.size > 0) timer = setTimeout(ask, 50);
}

link.addEventListener("change", () => {
  if (link.state === "open") plan();
});

async function ask() {
  const batch = [...wanted].slice(0, BATCH);
  if (link.state === "open") {
    try {
      const { items } = await get("/v1/instruments", { symbols: batch.join(","), limit: 1000 });
      for (const symbol of batch) {
        wanted.delete(symbol);
        symbols.set(symbol, items.filter((row) => row.symbol === symbol));
        for (const row of symbols.get(symbol)) rows.set(`${row.venue} ${symbol}`, row);
        for (const listener of listeners) listener(symbol);
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      timer = setTimeout(() => { timer = null; plan(); }, 5000);
      return;
    }
  }
  timer = null;
  if (link.state === "open") plan();
}
