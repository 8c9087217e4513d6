// The newest depth of one symbol per venue, with what the ladder and the depth chart show of it.

import { link } from "./link.js";
import { market } from "./market.js";
import { redraw } from "./frame.js";

/** Keeps `depth` messages of all venues of a symbol; tells `views` when the chosen venue's changed. */
export class Depths {
  constructor(symbol, views) {
    this.symbol = symbol;
    this.views = views;
    this.byVenue = new Map();
    this.venue = null;
    this.onVenue = () => {};
    this.#stops = [
      link.listen("depth", (message) => this.#take(message)),
      link.listen("status", (message) => this.#status(message)),
      market.watch(() => this.redraw()),
      link.want([`depth:all:${symbol}`, `depth:*:${symbol}`]),
    ];
    link.addEventListener("change", this.#change);
  }

  #stops;
  #change = () => {
    if (link.state === "open") this.byVenue.clear();
    this.redraw();
  };

  stop() {
    this.#stops.forEach((stop) => stop());
    link.removeEventListener("change", this.#change);
  }

  choose(venue) {
    this.venue = venue;
    this.redraw();
  }

  redraw() {
    this.views.forEach(redraw);
  }

  get depth() {
    return this.byVenue.get(this.venue) ?? null;
  }

  /** State and reason of the chosen venue's depth. */
  get standing() {
    return market.state(market.row(this.venue, this.symbol), "depth", this.depth !== null);
  }

  #take(message) {
    if (message.symbol !== this.symbol) return;
    const known = this.byVenue.has(message.venue);
    this.byVenue.set(message.venue, message);
    if (!known) this.onVenue(message.venue);
    if (message.venue === this.venue) this.redraw();
  }

  /** A book that is not good any more is shown no longer. */
  #status(message) {
    const about = message.symbol === this.symbol && (message.kind === null || message.kind === "book");
    if (about && message.state !== "live" && this.byVenue.delete(message.venue)) this.redraw();
  }
}
