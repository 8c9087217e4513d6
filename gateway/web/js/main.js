// The page: routes in the address's hash, and what all of them share.

import { showBoard } from "./board.js";
import { writes } from "./dom.js";
import { frames } from "./frame.js";
import { showInstruments } from "./instruments.js";
import { link } from "./link.js";
import { market } from "./market.js";
import { startPrompt } from "./prompt.js";
import { startSearch } from "./search.js";
import { parts, showSymbol } from "./symbol.js";
import { showVenues } from "./venues.js";

const root = document.getElementById("view");
let leave = () => {};
let shown = "";

/** The hash taken apart: `#/BTC-USDT?venue=okx` -> ["BTC-USDT", URLSearchParams]. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  try {
    return [decodeURIComponent(path), new URLSearchParams(query)];
  } catch {
    return ["", new URLSearchParams()];
  }
}

/** Write parameters into the address without going anywhere. */
function note(path, values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  const text = query.toString();
  history.replaceState(null, "", `#/${encodeURIComponent(path)}${text ? `?${text}` : ""}`);
  shown = location.hash;
}

function show() {
  if (location.hash === shown && shown !== "") return;
  shown = location.hash;
  const [path, query] = route();
  leave();
  root.replaceChildren();
  const name = { "": "board", venues: "venues", instruments: "instruments" }[path] ?? "symbol";
  root.dataset.route = name;
  document.querySelectorAll("nav a").forEach((a) => {
    if (a.dataset.route === name) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  });
  const go = (values) => note(path, values);
  const pages = { board: showBoard, venues: showVenues };
  if (name === "symbol") leave = showSymbol(root, path, query, go);
  else if (name === "instruments") leave = showInstruments(root, query, go);
  else leave = pages[name](root);
  scrollTo(0, 0);
}

let cameFrom = "";
addEventListener("hashchange", (event) => {
  const old = new URL(event.oldURL).hash;
  show();
  if (root.dataset.route === "board" && /^#\/[^?]+/.test(old)) focusSymbol(old);
});

/** Coming back to the board, the keyboard goes on where it was. */
function focusSymbol(hash) {
  cameFrom = decodeURIComponent(hash.slice(2).split("?")[0]);
  requestAnimationFrame(() => {
    const links = root.querySelectorAll("td.symbol a");
    [...links].find((a) => a.textContent === cameFrom)?.focus();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || event.target.closest("input, select, dialog")) return;
  if (root.dataset.route !== "board") location.hash = "#/";
});

startPrompt();
startSearch();
market.start();
show();
link.start();

// For those who want to look under the bonnet: how much work is done for how many messages.
window.tickwire = { link, market, frames, writes, parts };
