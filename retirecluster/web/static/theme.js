// Light or dark as the reader chose, before anything is painted. A classic script: modules would come too late.
(() => {
  const root = document.documentElement;
  const kept = () => { try { return localStorage.getItem("retire-theme") || ""; } catch { return ""; } };
  const use = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  use(kept());
  globalThis.retireTheme = {
    kept,
    /** "light", "dark", or "" for what the system says. */
    choose(theme) {
      try { localStorage.setItem("retire-theme", theme); } catch { /* for this page only */ }
      use(theme);
    },
  };
})();
