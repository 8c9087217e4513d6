// Charts in the page's colours. The library's own logo is off (it needs inline styles); `attribution` stands for it.

import {
  createChart, createOptionsChart, CrosshairMode,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { h } from "./dom.js";

/** Colours of the page now, by name of their CSS variable. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    ["panel", "line", "grid", "text", "dim", "accent", "up", "down", "up-soft", "down-soft"].map((n) => [n, read(n)]),
  );
}

function themed() {
  const c = colours();
  return {
    layout: {
      background: { color: c.panel }, textColor: c.dim, fontSize: 11, attributionLogo: false,
      fontFamily: getComputedStyle(document.body).fontFamily, panes: { separatorColor: c.line },
    },
    grid: { vertLines: { color: c.grid }, horzLines: { color: c.grid } },
    rightPriceScale: { borderColor: c.line },
    timeScale: { borderColor: c.line, allowBoldLabels: false },
  };
}

function follow(chart, paint) {
  const apply = () => {
    chart.applyOptions(themed());
    paint(colours());
  };
  document.addEventListener("themechange", apply);
  paint(colours());
  return () => {
    document.removeEventListener("themechange", apply);
    chart.remove();
  };
}

const MARGINS = { top: 0.08, bottom: 0.08 };

/** A chart over time in `element`; `setUp(chart)` adds series and returns `paint(colours)`. Returns [chart, remove]. */
export function timeChart(element, options, setUp) {
  const chart = createChart(element, {
    autoSize: true,
    crosshair: { mode: CrosshairMode.Normal },
    ...themed(),
    ...options,
    timeScale: { ...themed().timeScale, timeVisible: true, secondsVisible: true, rightOffset: 3, ...options.timeScale },
    rightPriceScale: { ...themed().rightPriceScale, scaleMargins: MARGINS, ...options.rightPriceScale },
  });
  return [chart, follow(chart, setUp(chart))];
}

/** A chart over prices, for what stands in a book. */
export function priceChart(element, options, setUp) {
  const chart = createOptionsChart(element, {
    autoSize: true, handleScroll: false, handleScale: false, ...themed(), ...options,
    timeScale: { ...themed().timeScale, tickMarkMaxCharacterLength: 11 },
    rightPriceScale: { ...themed().rightPriceScale, scaleMargins: { top: 0.08, bottom: 0 } },
  });
  return [chart, follow(chart, setUp(chart))];
}

/** The notice that the library's licence asks for. */
export const attribution = () =>
  h("p", { class: "attribution dim" }, "Charts: ",
    h("a", {
      href: "https://www.tradingview.com/", target: "_blank", rel: "noopener noreferrer",
      text: "TradingView Lightweight Charts™",
    }), " Copyright (c) 2026 TradingView, Inc.");
