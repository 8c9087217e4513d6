// Light, dark, or as the system has it. A plain script in the head, so that nothing is drawn in wrong colours first.
"use strict";
(() => {
  const KEY = "tickwire.theme";
  const ORDER = ["system", "light", "dark"];
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let theme = "system";
  try {
    const kept = localStorage.getItem(KEY);
    if (ORDER.includes(kept)) theme = kept;
  } catch { /* a browser that keeps nothing: as the system has it */ }

  function apply() {
    root.dataset.theme = theme === "system" ? (system.matches ? "dark" : "light") : theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = { system: "Auto", light: "Light", dark: "Dark" }[theme];
      button.setAttribute("aria-label", `Colours: ${button.textContent}. Change`);
    }
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      try { localStorage.setItem(KEY, theme); } catch { /* for this page only, then */ }
      apply();
    });
    apply();
  });
})();
