// The page about one code: a click on another code opens it through the map.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-code]');
  if (!button) return;
  window.dispatchEvent(new CustomEvent('codebook:code', { detail: Number(button.dataset.code) }));
});
