// The colours that were chosen in this browser, set before anything is drawn: a classic script, so that nothing flashes.

(() => {
  const KEY = "i2m.theme";
  const root = document.documentElement;

  const chosen = () => {
    try {
      return localStorage.getItem(KEY) ?? "auto";
    } catch {
      // Without storage the choice lasts as long as the page.
      return root.dataset.theme ?? "auto";
    }
  };

  const choose = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // See above.
    }
  };

  choose(chosen());

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const themes = ["auto", "light", "dark"];
    const label = () => button.replaceChildren(`Theme: ${chosen()}`);
    label();
    button.addEventListener("click", () => {
      choose(themes[(themes.indexOf(chosen()) + 1) % themes.length]);
      label();
    });
  });
})();
