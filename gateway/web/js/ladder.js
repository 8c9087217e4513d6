// The ladder: levels of one book, asks above bids, with the sizes as bars.

import { Cell, h, showState } from "./dom.js";
import { NONE, bps, price, size } from "./format.js";
import { forget } from "./frame.js";
import { ALL } from "./market.js";
import * as ticks from "./ticks.js";

const LEVELS = 11;

class Level {
  constructor(side) {
    this.tr = h("tr", { class: side });
    [this.price, this.size, this.total] = ["price num", "num", "num dim"].map((name) => {
      const td = h("td", { class: name });
      this.tr.append(td);
      return new Cell(td);
    });
    this.root = new Cell(this.tr);
  }

  show(level, total, most, decimals, venues) {
    this.price.set(level ? price(level[0], decimals) : "");
    this.size.set(level ? size(level[1]) : "");
    this.total.set(level ? size(total) : "");
    this.root.style("--share", level ? (total / most).toFixed(3) : "0");
    const parts = level && venues ? Object.entries(venues).sort((a, b) => b[1] - a[1]) : null;
    this.root.attr("title", parts ? parts.map(([venue, part]) => `${venue} ${size(part)}`).join("\n") : null);
  }
}

export class Ladder {
  constructor(root) {
    this.asks = Array.from({ length: LEVELS }, () => new Level("ask"));
    this.bids = Array.from({ length: LEVELS }, () => new Level("bid"));
    this.middle = new Cell(h("td", { colspan: 2, class: "num" }));
    this.state = new Cell(h("span"));
    root.append(h("table", { class: "ladder", "aria-label": "Order book" },
      h("thead", {}, h("tr", {}, ...["Price", "Size", "Total"].map((text) => h("th", { scope: "col", text })))),
      h("tbody", {}, ...[...this.asks].reverse().map(({ tr }) => tr)),
      h("tbody", { class: "middle" }, h("tr", {}, h("td", {}, this.state.element), this.middle.element)),
      h("tbody", {}, ...this.bids.map(({ tr }) => tr))));
  }

  stop() {
    forget(this);
  }

  draw() {
    if (this.depths?.venue == null) return;
    const { depth, symbol, venue, standing } = this.depths;
    const decimals = ticks.priceDecimals(venue, symbol);
    const sum = (levels) => levels.reduce((total, [, part]) => total + part, 0);
    const [bids, asks] = [depth?.bids ?? [], depth?.asks ?? []];
    const most = Math.max(sum(bids.slice(0, LEVELS)), sum(asks.slice(0, LEVELS))) || 1;
    side(this.bids, bids, most, decimals, venue === ALL ? depth?.bid_venues : null);
    side(this.asks, asks, most, decimals, venue === ALL ? depth?.ask_venues : null);
    showState(this.state, standing.state, standing.reason);
    if (bids.length > 0 && asks.length > 0) {
      const [bid, ask] = [bids[0][0], asks[0][0]];
      const word = ask < bid ? "crossed" : ask === bid ? "locked" : "spread";
      this.middle.set(`${word} ${bps(((ask - bid) / ((ask + bid) / 2)) * 1e4)} bps`);
    } else {
      this.middle.set(NONE);
    }
  }
}

function side(rows, levels, most, decimals, venues) {
  let total = 0;
  rows.forEach((row, i) => {
    total += levels[i]?.[1] ?? 0;
    row.show(levels[i], total, most, decimals, venues?.[i]);
  });
}
