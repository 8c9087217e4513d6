// Numbers as people read them. Absent is a dash, never 0.

export const NONE = "–";

/** How many decimals the number's shortest form has: 0.01 -> 2, 1e-8 -> 8, 10 -> 0. */
export function decimalsOf(number) {
  if (!Number.isFinite(number)) return 0;
  const [digits, exponent = "0"] = String(number).toLowerCase().split("e");
  const point = digits.indexOf(".");
  return Math.max(0, (point < 0 ? 0 : digits.length - point - 1) - Number(exponent));
}

/** A price with so many decimals; more where the price has more, for no digit may be hidden. */
export function price(value, decimals) {
  if (value === null || value === undefined) return NONE;
  const text = value.toFixed(Math.min(decimals, 20));
  return Number(text) === value ? text : value.toFixed(Math.min(decimalsOf(value), 20));
}

/** A price that was computed (mid, vwap): rounded to one decimal more than the ticks have. */
export function between(value, decimals) {
  return value === null || value === undefined ? NONE : value.toFixed(Math.min(decimals + 1, 20));
}

/** A size or volume, to about five significant digits. */
export function size(value) {
  if (value === null || value === undefined) return NONE;
  const much = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"]]) {
    if (much >= unit) return `${(value / unit).toFixed(2)}${letter}`;
  }
  if (much >= 100_000) return `${(value / 1000).toFixed(1)}K`;
  if (much >= 1000) return value.toFixed(1);
  if (much >= 10) return value.toFixed(2);
  if (much >= 0.1 || value === 0) return value.toFixed(4);
  const rounded = Number(value.toPrecision(3));
  return rounded.toFixed(Math.min(20, Math.max(5, decimalsOf(rounded))));
}

export function percent(value, decimals = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const text = Math.abs(value).toFixed(decimals);
  const sign = Number(text) === 0 ? "" : value > 0 ? "+" : "−";
  return `${sign}${text} %`;
}

/** Basis points: two significant digits below ten. */
export function bps(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const much = Math.abs(value);
  return value.toFixed(much >= 100 ? 0 : much >= 10 ? 1 : much >= 1 ? 2 : 3);
}

/** Time that passed, from milliseconds. */
export function age(ms) {
  if (ms === null || ms === undefined) return NONE;
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

export function count(value) {
  return value === null || value === undefined ? NONE : value.toLocaleString("en-US");
}

/** Milliseconds of a latency. */
export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value.toFixed(value >= 100 ? 0 : value >= 1 ? 1 : 2)} ms`;
}

/** Time of day of unix milliseconds, UTC as in the charts. */
export function clock(unixMs) {
  const at = new Date(unixMs);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

export const nsToMs = (ns) => ns / 1e6;
