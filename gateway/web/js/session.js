// The token: in memory, and in this tab's session storage so that a reload need not ask. Never in a URL.

const KEY = "tickwire.token";
let token = read();

function read() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing: in memory only
  }
}

export function getToken() {
  return token;
}

/** Keep a token; null forgets it. */
export function setToken(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch { /* in memory only, then */ }
}
