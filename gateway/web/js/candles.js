// The candlestick chart, with volumes below, for a venue and an interval that can be chosen.

import {
  CandlestickSeries, HistogramSeries,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { CandleFeed } from "./candlefeed.js";
import { timeChart } from "./chart.js";
import { Cell, h } from "./dom.js";
import { price, size } from "./format.js";
import { forget, redraw } from "./frame.js";
import * as ticks from "./ticks.js";

export const INTERVALS = ["1s", "10s", "1m", "5m", "15m", "1h", "1d"];
const LIMIT = 600;
const LAST_BARS = 120;

export class CandleChart {
  constructor(root) {
    this.box = h("div", { class: "chart candles", role: "img", "aria-label": "Candlestick chart" });
    this.legend = new Cell(h("p", { class: "legend num", "aria-live": "off" }));
    this.note = new Cell(h("p", { class: "note" }));
    root.append(h("div", { class: "plot" }, this.legend.element, this.note.element, this.box));
    [this.chart, this.remove] = timeChart(this.box, { rightPriceScale: { scaleMargins: { top: 0.1, bottom: 0.24 } } },
      (chart) => this.#setUp(chart));
    this.chart.subscribeCrosshairMove((at) => {
      this.hovered = at.time ?? null;
      redraw(this);
    });
    this.hovered = null;
    this.changed = new Map();
    this.all = true;
    this.feed = null;
    this.decimals = -1;
    this.onEmpty = () => {};
  }

  #setUp(chart) {
    this.series = chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volumes = chart.addSeries(HistogramSeries, {
      priceFormat: { type: "volume" }, priceScaleId: "", lastValueVisible: false, priceLineVisible: false,
    });
    this.volumes.priceScale().applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    return (c) => {
      this.colours = c;
      this.series.applyOptions({ upColor: c.up, downColor: c.down, wickUpColor: c.up, wickDownColor: c.down });
      this.all = true;
      redraw(this);
    };
  }

  /** Show candles of a venue and an interval. */
  show(venue, symbol, interval) {
    this.feed?.stop();
    this.venue = venue;
    this.symbol = symbol;
    this.series.setData([]);
    this.volumes.setData([]);
    this.all = this.fresh = true;
    this.chart.applyOptions({ timeScale: { secondsVisible: interval.endsWith("s"), timeVisible: interval !== "1d" } });
    this.feed = new CandleFeed(venue, symbol, interval, LIMIT, (bar) => {
      if (bar === null) this.all = true;
      else this.changed.set(bar.time, bar);
      if (this.feed.note === "" && this.feed.bars.size === 0) this.onEmpty(venue);
      redraw(this);
    });
    redraw(this);
  }

  stop() {
    forget(this);
    this.feed?.stop();
    this.remove();
  }

  draw() {
    if (this.feed === null) return;
    this.#format();
    const newest = this.last?.time ?? -Infinity;
    if ([...this.changed.keys()].some((time) => time < newest)) this.all = true; // a revision of an older candle
    if (this.all) this.#drawAll();
    else for (const bar of [...this.changed.values()].sort((a, b) => a.time - b.time)) this.#drawOne(bar);
    this.all = false;
    this.changed.clear();
    this.#drawText();
  }

  #format() {
    const decimals = ticks.priceDecimals(this.venue, this.symbol);
    if (decimals === this.decimals) return;
    this.decimals = decimals;
    this.series.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
  }

  #drawAll() {
    const bars = this.feed.sorted();
    this.series.setData(bars.map(candleOf));
    this.volumes.setData(bars.map((bar) => this.#volumeOf(bar)));
    this.last = bars.at(-1);
    if (this.fresh && bars.length > 0) {
      this.fresh = false;
      const from = Math.max(-5, bars.length - LAST_BARS);
      this.chart.timeScale().setVisibleLogicalRange({ from, to: bars.length + 3 });
    }
  }

  #drawOne(bar) {
    this.series.update(candleOf(bar));
    this.volumes.update(this.#volumeOf(bar));
    this.last = bar;
  }

  #volumeOf(bar) {
    const up = bar.close >= bar.open;
    return { time: bar.time, value: bar.volume, color: up ? this.colours["up-soft"] : this.colours["down-soft"] };
  }

  #drawText() {
    const bar = this.hovered === null ? this.last : this.feed.bars.get(this.hovered);
    const p = (value) => price(value, this.decimals);
    this.legend.set(bar && this.feed.bars.size
      ? `O ${p(bar.open)}  H ${p(bar.high)}  L ${p(bar.low)}  C ${p(bar.close)}  Vol ${size(bar.volume)}` : "");
    this.note.set(this.feed.note || (this.feed.bars.size === 0 ? "no trades yet, so no candles" : ""));
  }
}

const candleOf = ({ time, open, high, low, close }) => ({ time, open, high, low, close });
