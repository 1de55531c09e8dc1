// Applies the theme stored in this browser. A classic script runs before the first paint, so the page does not flash.

(() => {
  const STORAGE_KEY = "i2m.theme";
  const root = document.documentElement;

  const storedTheme = () => {
    try {
      return localStorage.getItem(STORAGE_KEY) ?? "auto";
    } catch {
      // Without storage, the theme lasts until the page is closed.
      return root.dataset.theme ?? "auto";
    }
  };

  const applyTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem(STORAGE_KEY, theme);
    } catch {
      // As in storedTheme.
    }
  };

  applyTheme(storedTheme());

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const themes = ["auto", "light", "dark"];
    const label = () => button.replaceChildren(`Theme: ${storedTheme()}`);
    label();
    button.addEventListener("click", () => {
      applyTheme(themes[(themes.indexOf(storedTheme()) + 1) % themes.length]);
      label();
    });
  });
})();
