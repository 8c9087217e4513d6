// Trade flow: what was bought and sold by takers, from the 10 s candles.

import {
  HistogramSeries,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { CandleFeed } from "./candlefeed.js";
import { timeChart } from "./chart.js";
import { Cell, h } from "./dom.js";
import { NONE, size } from "./format.js";
import { forget, redraw } from "./frame.js";
import { link } from "./link.js";

const INTERVAL = "10s";
const LIMIT = 180;
const SUMMED_S = 300;

export class Flow {
  constructor(root) {
    const figure = (name, label) => {
      const cell = new Cell(h("dd", { class: `num ${name}` }));
      return [cell, h("div", {}, h("dt", { text: label }), cell.element)];
    };
    const figures = [["up", "Bought"], ["down", "Sold"], ["", "Net"], ["", "Buys"]].map((f) => figure(...f));
    [this.bought, this.sold, this.net, this.share] = figures.map(([cell]) => cell);
    this.note = new Cell(h("p", { class: "note" }));
    this.box = h("div", { class: "chart flow", role: "img", "aria-label": "Bought and sold volume per 10 seconds" });
    root.append(h("dl", { class: "figures" }, ...figures.map(([, element]) => element)),
      h("div", { class: "plot" }, this.note.element, this.box));
    [this.chart, this.remove] = timeChart(this.box, { handleScale: false }, (chart) => this.#setUp(chart));
    this.feed = null;
  }

  #setUp(chart) {
    const options = { priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false };
    this.buys = chart.addSeries(HistogramSeries, options);
    this.sells = chart.addSeries(HistogramSeries, options);
    return (c) => {
      this.buys.applyOptions({ color: c.up });
      this.sells.applyOptions({ color: c.down });
    };
  }

  show(venue, symbol) {
    this.feed?.stop();
    this.feed = new CandleFeed(venue, symbol, INTERVAL, LIMIT, () => redraw(this));
    redraw(this);
  }

  stop() {
    forget(this);
    this.feed?.stop();
    this.remove();
  }

  draw() {
    if (this.feed === null) return;
    const bars = this.feed.sorted().filter((bar) => bar.buy !== null && bar.sell !== null);
    this.buys.setData(bars.map(({ time, buy }) => ({ time, value: buy })));
    this.sells.setData(bars.map(({ time, sell }) => ({ time, value: -sell })));
    const since = link.now() / 1000 - SUMMED_S;
    const recent = bars.filter((bar) => bar.time + 10 > since);
    const buy = recent.reduce((sum, bar) => sum + bar.buy, 0);
    const sell = recent.reduce((sum, bar) => sum + bar.sell, 0);
    this.bought.set(size(buy));
    this.sold.set(size(sell));
    this.net.set(buy >= sell ? `+${size(buy - sell)}` : `−${size(sell - buy)}`);
    this.net.attr("class", `num ${buy >= sell ? "up" : "down"}`);
    this.share.set(buy + sell > 0 ? `${((100 * buy) / (buy + sell)).toFixed(0)} %` : NONE);
    this.note.set(this.feed.note || (bars.length === 0 ? "no trades yet" : ""));
  }
}
