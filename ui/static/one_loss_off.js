// Decoders with one loss off: the switch brings another one into view, and keeps it there when the
// picture changes. Gradio then writes into the old nodes, so attributes are watched as well; only
// what differs is set, or this would call itself for ever.
let chosen = 'full';
function choose() {
  const shown = element.querySelector(`[data-decoder="${chosen}"]`) ? chosen : 'full';
  for (const b of element.querySelectorAll('[data-decoder]')) {
    const pressed = String(b.dataset.decoder === shown);
    if (b.getAttribute('aria-pressed') !== pressed) b.setAttribute('aria-pressed', pressed);
  }
  for (const f of element.querySelectorAll('[data-decoded]')) {
    const hidden = f.dataset.decoded !== shown;
    if (f.hidden !== hidden) f.hidden = hidden;
  }
}
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-decoder]');
  if (!button) return;
  chosen = button.dataset.decoder;
  choose();
});
new MutationObserver(choose).observe(element, {
  childList: true, subtree: true, attributes: true, attributeFilter: ['src', 'hidden', 'aria-pressed'],
});
