// The feeds: connections, losses, latency, REST budget.

import { Cell, h, showState } from "./dom.js";
import { NONE, age, count, ms } from "./format.js";
import { every, forget, redraw } from "./frame.js";
import { link } from "./link.js";
import { market } from "./market.js";

const POLL_MS = 2000;
const sum = (counters, ...names) => names.reduce((total, name) => total + (counters[name] ?? 0), 0);
const starting = (counters, prefix) =>
  Object.entries(counters).reduce((total, [name, value]) => total + (name.startsWith(prefix) ? value : 0), 0);

const socketsOf = ({ feed }) =>
  (feed ? `${feed.connections.filter((c) => c.connected).length}/${feed.connections.length}` : NONE);
const counted = (...names) => (v) => figure(v, (counters) => sum(counters, ...names));

/** Columns: title, what it means, text from (view, rates). */
const COLUMNS = [
  ["Symbols", "Symbols published", (v) => count(v.symbols)],
  ["Books", "Live of wanted", (v) => (v.feed?.books_wanted ? `${v.feed.books_live}/${v.feed.books_wanted}` : NONE)],
  ["Sockets", "Connected of all", socketsOf],
  ["Channels", "With data, acknowledged, requested", (v) => channels(v.feed)],
  ["In /s", "Messages from the venue per second", (v, rates) => rate(rates.received)],
  ["Out /s", "Messages published per second", (v, rates) => rate(rates.published)],
  ["Reconnects", "Sockets that were opened again", counted("reconnects")],
  ["Resyncs", "Books built anew after a gap, a bad checksum or a crossed book", counted("resyncs")],
  ["Gaps", "Trades missing between two ids, and events dropped while Redis was away",
    counted("trades_lost", "events_dropped")],
  ["Unreadable", "Frames that could not be read, and things skipped",
    (v) => figure(v, (counters) => sum(counters, "wire_errors") + starting(counters, "skipped_"))],
  ["Venue → hub", "Median and 99th percentile from the venue's time to the socket here; as good as both clocks",
    (v) => way(v, "venue_to_hub")],
  ["Hub → Redis", "Median and 99th percentile from the socket to Redis' confirmation", (v) => way(v, "hub_to_redis")],
  ["REST budget", "Weight or calls used, of how much, in how long", (v) => budget(v.feed)],
  ["Newest", "Time since the newest data", (v) => age(v.age_ms === null ? null : v.age_ms + Date.now() - v.at)],
];

const figure = (view, read) => (view.feed ? count(read(view.feed.counters)) : NONE);
const rate = (value) => (value === null ? NONE : value >= 100 ? count(Math.round(value)) : value.toFixed(1));

function channels(feed) {
  if (!feed || feed.connections.length === 0) return NONE;
  const total = (name) => feed.connections.reduce((all, connection) => all + connection[name], 0);
  return `${total("with_data")}/${total("acked")}/${total("requested")}`;
}

function way(view, name) {
  const found = view.feed?.latency?.[name];
  return found ? `${ms(found.p50_ms)} · ${ms(found.p99_ms)}` : NONE;
}

function budget(feed) {
  if (!feed) return NONE;
  if (feed.rest_banned_until) return `silent for ${age(feed.rest_banned_until - link.now())}`;
  const parts = (feed.budget ?? []).map(({ limit, window_s, used }) =>
    `${count(used)}/${count(limit)} in ${age(window_s * 1000).replace(".0", "")}`);
  return parts.join(", ") || NONE;
}

class VenueLine {
  constructor(name) {
    this.name = name;
    this.state = new Cell(h("span"));
    this.reason = new Cell(h("td", { class: "reason", colspan: COLUMNS.length + 1 }));
    this.cells = COLUMNS.map(() => new Cell(h("td", { class: "num" })));
    this.tr = h("tr", {}, h("th", { scope: "row", text: name }), h("td", {}, this.state.element),
      ...this.cells.map((cell) => cell.element));
    this.why = h("tr", { class: "why", hidden: true }, h("td"), this.reason.element);
    this.rates = { received: null, published: null };
    this.before = null;
  }

  /** Learn a new answer; rates come from the difference to the one before. */
  take(view) {
    this.view = view;
    if (!view.feed) {
      this.before = null;
      this.rates = { received: null, published: null };
      return;
    }
    const received = view.feed.connections.reduce((total, connection) => total + connection.messages, 0);
    const { ts, epoch, counters } = view.feed;
    const now = { ts: ts / 1e9, received, published: counters.published ?? 0, epoch };
    const last = this.before;
    if (last && last.epoch === now.epoch && now.ts > last.ts) {
      const over = now.ts - last.ts;
      const per = (name) => (now[name] >= last[name] ? (now[name] - last[name]) / over : null);
      this.rates = { received: per("received"), published: per("published") };
    }
    if (!last || now.ts > last.ts) this.before = now;
  }

  draw() {
    const { state, reason } = market.verdict(this.name) ?? { state: "connecting", reason: "" };
    showState(this.state, state, reason);
    this.reason.set(reason);
    this.why.hidden = reason === "" || state === "live";
    COLUMNS.forEach(([, , text], i) => this.cells[i].set(text(this.view, this.rates)));
  }
}

/** Show the venues in `root`; returns what takes them away. */
export function showVenues(root) {
  const lines = new Map();
  const body = h("tbody");
  const sockets = h("tbody");
  const head = COLUMNS.map(([title, meaning]) => h("th", { scope: "col", class: "num", text: title, title: meaning }));
  const empty = h("p", { class: "empty", text: "No venue published here yet." });
  root.append(h("h1", { class: "page", text: "Venues" }),
    h("div", { class: "sheet scroll", tabindex: 0, role: "region", "aria-label": "Venues" },
      h("table", { class: "venues", "aria-label": "Venues" },
        h("thead", {}, h("tr", {}, ...["Venue", "State"].map((text) => h("th", { scope: "col", text })), ...head)),
        body), empty),
    h("h2", { class: "page", text: "Connections" }),
    h("div", { class: "sheet scroll" },
      h("table", { class: "venues", "aria-label": "Connections" },
        h("thead", {}, h("tr", {}, ...["Venue", "Address", "State", "Since", "Channels", "Messages", "Refused"]
          .map((text, i) => h("th", { scope: "col", class: i > 2 && i < 6 ? "num" : null, text })))), sockets)));

  function draw() {
    for (const [name, view] of [...market.venues].sort()) {
      let line = lines.get(name);
      if (!line) {
        line = new VenueLine(name);
        lines.set(name, line);
        const next = [...lines.keys()].filter((other) => other > name).sort()[0];
        body.insertBefore(line.tr, next ? lines.get(next).tr : null);
        body.insertBefore(line.why, line.tr.nextSibling);
      }
      if (line.view !== view) line.take(view);
      line.draw();
    }
    empty.hidden = lines.size > 0;
    const views = [...market.venues.values()];
    sockets.replaceChildren(...views.flatMap((view) => (view.feed?.connections ?? []).map((c) => connection(view, c))));
  }

  const view = { draw };
  const stops = [
    market.onVenues(() => redraw(view)),
    market.watch((row) => row === null && redraw(view)),
    every(POLL_MS, () => market.refreshVenues()),
    () => forget(view),
  ];
  redraw(view);
  market.refreshVenues();
  document.title = "Venues · Tickwire";
  return () => {
    stops.forEach((stop) => stop());
    document.title = "Tickwire";
  };
}

function connection({ venue }, { url, connected, since, with_data, acked, requested, messages, refused }) {
  const word = connected ? "connected" : "not connected";
  const state = h("span", { class: `state ${connected ? "live" : "down"}`, text: word });
  const refusals = Object.entries(refused ?? {}).map(([name, reason]) => `${name}: ${reason}`).join("; ");
  return h("tr", {}, h("th", { scope: "row", text: venue }), h("td", { class: "url", text: url }), h("td", {}, state),
    h("td", { class: "num", text: since ? age(link.now() - since / 1e6) : NONE }),
    h("td", { class: "num", text: `${with_data}/${acked}/${requested}` }),
    h("td", { class: "num", text: count(messages) }),
    h("td", { class: refusals ? "reason" : "dim", text: refusals || NONE }));
}
