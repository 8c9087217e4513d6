// The depth chart: how much stands between the middle and each price.

import {
  AreaSeries, LineType,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { priceChart } from "./chart.js";
import { Cell, h } from "./dom.js";
import { forget } from "./frame.js";
import * as ticks from "./ticks.js";

const POINTS = 80; // per side
const WIDEST = 4; // one side's range against the other's, at most
const MIN_GAP_MS = 200;

export class DepthChart {
  constructor(root) {
    this.note = new Cell(h("p", { class: "note" }));
    this.box = h("div", { class: "chart depth", role: "img", "aria-label": "Depth chart" });
    root.append(h("div", { class: "plot" }, this.note.element, this.box));
    [this.chart, this.remove] = priceChart(this.box, {}, (chart) => {
      const options = {
        lineType: LineType.WithSteps, lineWidth: 1, priceFormat: { type: "volume" }, lastValueVisible: false,
        priceLineVisible: false, crosshairMarkerVisible: false,
      };
      this.bids = chart.addSeries(AreaSeries, options);
      this.asks = chart.addSeries(AreaSeries, options);
      return (c) => {
        this.bids.applyOptions({ lineColor: c.up, topColor: c["up-soft"], bottomColor: c["up-soft"] });
        this.asks.applyOptions({ lineColor: c.down, topColor: c["down-soft"], bottomColor: c["down-soft"] });
      };
    });
    this.drawnAt = 0;
    this.timer = null;
    this.points = 0;
  }

  stop() {
    forget(this);
    clearTimeout(this.timer);
    this.remove();
  }

  draw() {
    const wait = this.drawnAt + MIN_GAP_MS - performance.now();
    if (wait > 0) {
      this.timer ??= setTimeout(() => this.#now(), wait);
      return;
    }
    this.#now();
  }

  #now() {
    clearTimeout(this.timer);
    this.timer = null;
    this.drawnAt = performance.now();
    if (this.depths?.venue == null) return;
    const { depth, symbol, venue, standing } = this.depths;
    const whole = depth !== null && depth.bids.length > 0 && depth.asks.length > 0;
    this.note.set(whole ? "" : depth === null ? `no book: ${standing.state}` : "one side is empty");
    const [bids, asks] = whole ? curves(depth) : [[], []];
    this.points = bids.length + asks.length;
    this.chart.applyOptions({ localization: { precision: ticks.priceDecimals(venue, symbol) } });
    this.bids.setData(bids);
    this.asks.setData(asks);
    if (whole) this.chart.timeScale().fitContent();
  }
}

/** Cumulated sizes on an even grid of prices, since the axis shows points at even distances. */
export function curves({ bids, asks }) {
  const middle = (bids[0][0] + asks[0][0]) / 2;
  const reach = [middle - bids.at(-1)[0], asks.at(-1)[0] - middle].map((far) => Math.max(far, 0));
  const range = Math.min(Math.max(...reach), WIDEST * (Math.min(...reach) || Infinity));
  const step = range / POINTS || 1;
  const sample = (levels, sign) => {
    const points = [];
    let total = 0;
    let next = 0;
    for (let i = 0; i <= POINTS; i += 1) {
      const at = middle + sign * step * i;
      while (next < levels.length && sign * (at - levels[next][0]) >= 0) total += levels[next++][1];
      points.push({ time: at, value: total });
    }
    return points;
  };
  // Both begin in the middle, which may stand in one of them only: times of a chart are shared by its series.
  return [sample(bids, -1).reverse(), sample(asks, 1)];
}
