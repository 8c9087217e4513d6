// The one WebSocket of the page: it comes back by itself, resumes events behind the last one it saw, and sleeps while
// the tab is hidden.

import { getToken, setToken } from "./session.js";

const HELLO = "hello";
const FIRST_DELAY_MS = 400;
const LAST_DELAY_MS = 15_000;
const PING_MS = 10_000;
const SILENT_MS = 25_000;
const HIDDEN_MS = 10_000;

class Link extends EventTarget {
  /** connecting, open, lost, locked (a token is wanted) or asleep (the tab is hidden) */
  state = "connecting";
  reason = "";
  retryAt = 0;
  received = 0;
  /** Number of the connection. */
  session = 0;
  #socket = null;
  #handlers = new Map();
  #wanted = new Map(); // name -> {count, rate}
  #sent = new Map(); // name -> rate, as the gateway knows it
  #acks = new Map();
  #last = new Map(); // event channel -> id
  #delay = FIRST_DELAY_MS;
  #retry = null;
  #hidden = null;
  #planned = false;
  #heard = 0;
  #refusal = "";
  #clock = { skew: 0, trip: Infinity };

  start() {
    document.addEventListener("visibilitychange", () => this.#visibility());
    setInterval(() => this.#beat(), PING_MS);
    this.#connect();
  }

  /** Unix ms by the gateway's clock. */
  now() {
    return Date.now() + this.#clock.skew;
  }

  /** Call `handler` with every message of a type; returns what ends that. */
  listen(type, handler) {
    const found = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, found.add(handler));
    return () => found.delete(handler);
  }

  /** Subscribe to channels and patterns; returns what takes that back. `rate`: messages a second at most. */
  want(names, rate = null) {
    for (const name of names) {
      const entry = this.#wanted.get(name) ?? { count: 0, rate };
      entry.count += 1;
      this.#wanted.set(name, entry);
    }
    this.#plan();
    let released = false;
    return () => {
      if (released) return;
      released = true;
      for (const name of names) {
        const entry = this.#wanted.get(name);
        entry.count -= 1;
        if (entry.count === 0) this.#wanted.delete(name);
      }
      this.#plan();
    };
  }

  /** The acknowledgement of a channel, where this connection has one. */
  ack(name) {
    return this.#acks.get(name);
  }

  /** Go on with a token that somebody typed in. */
  unlock(token) {
    setToken(token);
    this.#delay = FIRST_DELAY_MS;
    this.#connect();
  }

  /** The token is not good (any more): ask for another one. */
  refuse(reason) {
    if (this.state === "locked") return;
    setToken(null);
    this.#drop();
    this.#become("locked", reason);
  }

  /** Try again now. */
  retry() {
    if (this.state === "lost") this.#connect();
  }

  #become(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("change"));
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#drop();
    this.#become("connecting");
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/ws");
    this.#socket = socket;
    this.#refusal = "";
    this.#heard = Date.now();
    socket.onopen = () => {
      const token = getToken();
      this.#helloAt = Date.now();
      this.#say(token === null ? { op: "ping", id: HELLO } : { op: "auth", token, id: HELLO });
    };
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#closed(event);
  }

  #helloAt = 0;

  /** Let go of the socket without hearing of its end. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#sent.clear();
    this.#acks.clear();
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  #closed(event) {
    this.#drop();
    if (event.code === 4401) {
      setToken(null);
      this.#become("locked", this.#refusal || event.reason || "the token was refused");
      return;
    }
    const hint = /reconnect_ms=(\d+)/.exec(event.reason);
    const delay = hint ? Number(hint[1]) : this.#delay * (0.5 + Math.random() / 2);
    if (!hint) this.#delay = Math.min(this.#delay * 2, LAST_DELAY_MS);
    this.retryAt = Date.now() + delay;
    this.#retry = setTimeout(() => this.#connect(), delay);
    this.#become("lost", event.reason.split(";")[0] || this.#refusal || "the gateway cannot be reached");
  }

  #visibility() {
    clearTimeout(this.#hidden);
    if (!document.hidden) {
      if (this.state === "asleep" || this.state === "lost") this.#connect();
      return;
    }
    this.#hidden = setTimeout(() => {
      if (this.state === "locked") return;
      clearTimeout(this.#retry);
      this.#drop();
      this.#become("asleep", "the tab is hidden");
    }, HIDDEN_MS);
  }

  #beat() {
    if (this.state !== "open") return;
    if (Date.now() - this.#heard > SILENT_MS) {
      this.#closed({ code: 1006, reason: "the gateway does not answer" });
      return;
    }
    this.#helloAt = Date.now();
    this.#say({ op: "ping", id: "beat" });
  }

  #say(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #take(data) {
    const message = JSON.parse(data);
    this.received += 1;
    this.#heard = Date.now();
    switch (message.type) {
      case "pong":
        this.#tune(message.ts / 1e6);
        // falls through
      case "auth":
        if (message.id === HELLO) this.#ready();
        break;
      case "ack":
        this.#delay = FIRST_DELAY_MS;
        if (message.op === "subscribe") this.#acks.set(message.channel, message);
        break;
      case "error":
        if (message.id === HELLO && message.code === "unauthorized") return this.refuse("");
        if (message.id === HELLO || message.code.startsWith("token_")) this.#refusal = message.detail;
        break;
      case "trade":
        this.#note(`trade:${message.venue}:${message.symbol}`, message.id);
        break;
      default:
        if (message.type.startsWith("candle.")) {
          this.#note(`${message.type}:${message.venue}:${message.symbol}`, message.id);
        }
    }
    for (const handler of this.#handlers.get(message.type) ?? []) handler(message);
  }

  #note(channel, id) {
    if (this.#wanted.has(channel)) this.#last.set(channel, id);
  }

  /** Learn the gateway's clock from the quickest answer so far. */
  #tune(gatewayMs) {
    const now = Date.now();
    const trip = now - this.#helloAt;
    if (trip > this.#clock.trip * 1.5) return;
    this.#clock = { skew: gatewayMs - (this.#helloAt + now) / 2, trip: Math.max(trip, 1) };
  }

  #ready() {
    this.session += 1;
    if (getToken() !== null) this.#beatSoon();
    this.#become("open");
    this.#plan();
  }

  #beatSoon() {
    this.#helloAt = Date.now();
    this.#say({ op: "ping", id: "beat" });
  }

  // subscriptions: what is wanted against what the gateway knows, once per turn

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      for (const name of this.#last.keys()) if (!this.#wanted.has(name)) this.#last.delete(name);
      if (this.state === "open") this.#settle();
    });
  }

  #settle() {
    const gone = [...this.#sent.keys()].filter((name) => !this.#wanted.has(name));
    if (gone.length > 0) {
      this.#say({ op: "unsubscribe", channels: gone });
      for (const name of gone) {
        this.#sent.delete(name);
        this.#acks.delete(name);
      }
    }
    const byRate = new Map();
    for (const [name, { rate }] of this.#wanted) {
      if (this.#sent.has(name)) continue;
      this.#sent.set(name, rate);
      byRate.set(rate, [...(byRate.get(rate) ?? []), name]);
    }
    for (const [rate, channels] of byRate) {
      const after = {};
      for (const name of channels) if (this.#last.has(name)) after[name] = this.#last.get(name);
      // A channel that is to be continued comes before a pattern that would begin it anew.
      channels.sort((a, b) => (b in after) - (a in after));
      const message = { op: "subscribe", channels, id: "page" };
      if (rate !== null) message.max_rate = rate;
      if (Object.keys(after).length > 0) message.after = after;
      for (const name of channels) this.#resuming.delete(name);
      for (const name of Object.keys(after)) this.#resuming.add(name);
      this.#say(message);
    }
  }

  #resuming = new Set();

  /** Whether a channel was continued behind the last message seen, rather than begun. */
  resumes(name) {
    return this.#resuming.has(name);
  }
}

export const link = new Link();
