// The slider of two pictures, which is Gradio's: for fingers that scroll, and for keys.
(() => {
  // A finger that moves up or down over the slider scrolls the page: Gradio's keeps all moves, and
  // forbids the browser its own from the first touch on.
  let start = null;
  const touch = (event) => event.target.closest?.('#slider') && event.touches.length === 1 && event.touches[0];
  document.addEventListener('touchstart', (event) => {
    const at = touch(event);
    start = at && { x: at.clientX, y: at.clientY, scrolls: null };
    if (at) event.preventDefault = () => {};
  }, { capture: true, passive: true });
  document.addEventListener('touchmove', (event) => {
    const at = start && touch(event);
    if (!at) return;
    const [dx, dy] = [at.clientX - start.x, at.clientY - start.y].map(Math.abs);
    if (start.scrolls === null && dx + dy > 3) start.scrolls = dy > dx;
    if (start.scrolls !== false) event.stopImmediatePropagation();
  }, { capture: true, passive: true });

  // Its handle knows pointers only. A key presses it where it should go.
  const STEPS = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05, PageDown: -0.25, PageUp: 0.25, Home: -1, End: 1 };
  // Where the picture is inside its frame, which it need not fill.
  const picture = (handle) => {
    const image = handle.parentElement.querySelector('img'), frame = image.getBoundingClientRect();
    const width = Math.min(frame.width, (frame.height * image.naturalWidth) / image.naturalHeight) || 1;
    return { left: frame.left + (frame.width - width) / 2, width };
  };
  const share = (handle) => {
    const { left, width } = picture(handle), at = handle.getBoundingClientRect();
    return Math.min(Math.max((at.left + at.width / 2 - left) / width, 0), 1);
  };
  new MutationObserver(() => {
    const handle = document.querySelector('#slider [data-testid=slider]:not([tabindex])');
    if (!handle) return;
    const name = { role: 'slider', tabindex: 0, 'aria-labelledby': 'slider-caption', 'aria-valuemin': 0, 'aria-valuemax': 100 };
    for (const [key, value] of Object.entries(name)) handle.setAttribute(key, value);
    const tell = () => handle.setAttribute('aria-valuenow', Math.round(100 * share(handle)));
    new MutationObserver(tell).observe(handle, { attributes: true, attributeFilter: ['style'] });
    handle.addEventListener('focus', tell); // another picture may be narrower
    tell();
  }).observe(document.body, { childList: true, subtree: true });
  document.addEventListener('keydown', (event) => {
    const handle = event.target.closest?.('#slider [data-testid=slider]'), step = STEPS[event.key];
    if (!handle || !step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const { left, width } = picture(handle);
    const at = Math.min(Math.max(share(handle) + step, 0), 1);
    const mouse = { bubbles: true, cancelable: true, view: window, clientX: left + at * width };
    for (const kind of ['mousedown', 'mouseup']) handle.dispatchEvent(new MouseEvent(kind, mouse));
  });
})();
