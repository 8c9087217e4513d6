// The token prompt, the state of the link, and the banner while the gateway is away.

import { Cell, h, showState } from "./dom.js";
import { every } from "./frame.js";
import { link } from "./link.js";

const WORDS = {
  connecting: "connecting", open: "connected", lost: "no connection", locked: "token wanted", asleep: "asleep",
};
const CLASSES = { connecting: "connecting", open: "live", lost: "down", locked: "stale", asleep: "connecting" };

export function startPrompt() {
  const dialog = document.getElementById("token");
  const input = document.getElementById("token-input");
  const reason = document.getElementById("token-reason");
  const banner = document.getElementById("banner");
  const word = new Cell(document.getElementById("link").firstElementChild);
  document.getElementById("link").firstElementChild.firstChild.remove();
  const text = new Cell(h("span"));
  const again = h("button", { type: "button", text: "Try now", onclick: () => link.retry() });
  const enter = h("button", { type: "button", text: "Enter a token", onclick: () => ask() });
  banner.append(text.element, again, enter);
  let waited = false;

  function ask() {
    reason.textContent = link.reason || "This gateway wants a token.";
    input.value = "";
    if (!dialog.open) dialog.showModal();
    input.focus();
  }

  function show() {
    const { state } = link;
    showState(word, WORDS[state], link.reason);
    word.attr("class", `state ${CLASSES[state]}`);
    // The first connection is not worth a banner; one that was lost is, until it is back.
    waited = state === "lost" || (waited && state === "connecting");
    banner.hidden = !(waited || state === "locked");
    again.hidden = state !== "lost";
    enter.hidden = state !== "locked";
    if (state !== "locked" && dialog.open) dialog.close();
    document.body.dataset.link = state;
    tell();
  }

  function tell() {
    if (banner.hidden) return;
    const seconds = Math.ceil((link.retryAt - Date.now()) / 1000);
    if (link.state === "locked") text.set(`A token is wanted. ${link.reason}`);
    else if (link.state === "connecting") text.set("Connecting again…");
    else {
      const when = seconds > 0 ? `in ${seconds} s` : "now";
      text.set(`No connection: ${link.reason}. What is shown is old. Trying again ${when}.`);
    }
  }

  dialog.querySelector("form").addEventListener("submit", () => {
    const token = input.value.trim();
    input.value = "";
    if (token !== "") link.unlock(token);
  });
  document.getElementById("token-cancel").addEventListener("click", () => dialog.close());
  link.addEventListener("change", () => {
    show();
    if (link.state === "locked") ask();
  });
  every(1000, tell);
  show();
}
