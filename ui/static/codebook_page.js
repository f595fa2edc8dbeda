// The page about one code: a click on another code opens it through the map.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-code]');
  if (!button) return;
  window.dispatchEvent(new CustomEvent('codebook:code', { detail: Number(button.dataset.code) }));
  // The page changes as a whole: back to its heading, if that has been scrolled out of sight.
  if (element.getBoundingClientRect().top < 0) element.scrollIntoView({ behavior: 'smooth' });
});
