// Switches in the page's header. Languages: Gradio translates its own components and tells which
// language it took through #language; our HTML carries both, and the stylesheet hides one by <html lang>.
(() => {
  const root = document.documentElement;
  const follow = () => {
    const found = document.querySelector('#language [data-language]');
    if (found && root.lang !== found.dataset.language) root.lang = found.dataset.language;
  };
  new MutationObserver(follow).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-language'] });
  follow();

  // Gradio's own module knows how to change the language of a running page; where it cannot be
  // found, the footer's settings still do it.
  async function changeLanguage(language) {
    const address = performance.getEntriesByType('resource').map((e) => e.name)
      .find((name) => /\/assets\/core-[^/]*\.js/.test(name));
    const core = address && (await import(address));
    if (core && core.changeLocale) core.changeLocale(language);
  }
  document.addEventListener('click', (event) => {
    const act = event.target.closest && event.target.closest('[data-switch]');
    if (!act) return;
    if (act.dataset.switch === 'theme') document.body.classList.toggle('dark');
    if (act.dataset.switch === 'language') changeLanguage(root.lang === 'zh' ? 'en' : 'zh-CN');
  });
})();
