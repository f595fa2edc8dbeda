// Switches in the page's header. Languages: Gradio translates its own components and tells which
// language it took through #language; our HTML carries both, and the stylesheet hides one by <html lang>.
(() => {
  const root = document.documentElement, labels = /* labels */ {};
  const chinese = (language) => language.startsWith('zh');
  // A page that may not store anything forgets the choice, and that is all.
  const remembered = (key) => { try { return localStorage.getItem(`studio.${key}`); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(`studio.${key}`, value); } catch { /* see above */ } };

  let met = false;
  const follow = () => {
    const found = document.querySelector('#language [data-language]');
    if (!found) return;
    const language = found.dataset.language;
    if (!met) { // the page is there: what was chosen last time
      met = true;
      const wanted = remembered('language'), theme = remembered('theme');
      if (theme) document.body.classList.toggle('dark', theme === 'dark');
      if (wanted && chinese(wanted) !== chinese(language)) changeLanguage(wanted);
    }
    if (root.lang !== language) root.lang = language;
    relabel(chinese(language) ? 1 : 0);
  };
  // Gradio forgets the labels of tabs that were never open. Text nodes stay: they are Gradio's.
  function relabel(place) {
    for (const tab of document.querySelectorAll('[role=tab]')) {
      for (const node of tab.childNodes) {
        const pair = node.nodeType === Node.TEXT_NODE && labels[node.data.trim()];
        if (pair && node.data.trim() !== pair[place]) node.data = pair[place];
      }
    }
  }
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
    if (act.dataset.switch === 'theme') {
      remember('theme', document.body.classList.toggle('dark') ? 'dark' : 'light');
    }
    if (act.dataset.switch === 'language') {
      const language = chinese(root.lang) ? 'en' : 'zh-CN';
      remember('language', language);
      changeLanguage(language);
    }
  });

  // A file dropped beside the box would take the page's place, with all that was made on it. Where
  // the box can be seen it opens there.
  let within = false; // a picture of this page is dragged, not a file
  for (const [name, is] of [['dragstart', true], ['dragend', false], ['pointerdown', false]]) {
    document.addEventListener(name, () => { within = is; });
  }
  for (const name of ['dragover', 'drop']) document.addEventListener(name, (event) => {
    if (within || event.defaultPrevented || !event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    const box = document.querySelector('#upload'), input = box?.querySelector('input[type=file]');
    const open = input && box.offsetParent !== null;
    event.dataTransfer.dropEffect = open ? 'copy' : 'none';
    if (name === 'dragover' || !open || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
})();
