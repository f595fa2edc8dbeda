// Decoders with one loss off: the switch brings another one into view, and keeps it there when the
// picture changes.
let chosen = 'full';
function choose() {
  if (!element.querySelector(`[data-decoder="${chosen}"]`)) chosen = 'full';
  for (const b of element.querySelectorAll('[data-decoder]')) b.setAttribute('aria-pressed', b.dataset.decoder === chosen);
  for (const f of element.querySelectorAll('[data-decoded]')) f.hidden = f.dataset.decoded !== chosen;
}
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-decoder]');
  if (!button) return;
  chosen = button.dataset.decoder;
  choose();
});
new MutationObserver(choose).observe(element, { childList: true, subtree: true });
