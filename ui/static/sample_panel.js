// About one written picture: the row from which it may be rewritten is chosen here.
let wanted = null, row = null; // the visitor's choice, kept from picture to picture; what is shown

function show() {
  const page = element.querySelector('.sp');
  if (!page) return;
  const rows = Number(page.dataset.rows), last = Number(page.dataset.last);
  row = Math.min(Math.max(wanted ?? Math.round(rows / 2), 1), last);
  page.dataset.row = row;
  page.querySelector('.sp-stage').setAttribute('aria-valuenow', row + 1);
  page.querySelector('.sp-cut').style.top = (100 * row) / rows + '%';
  page.querySelector('.sp-cut').hidden = !last; // no row is whole: there is nothing to go on from
  page.querySelector('.sp-rewrite b').textContent = last ? row + 1 : '';
}

element.addEventListener('click', (event) => {
  if (event.target.closest('[data-act=rewrite]')) {
    const { picture, batch } = element.querySelector('.sp').dataset; // by its turn others may be shown
    return trigger('rewrite', { asked: { row, picture: Number(picture), batch: Number(batch) } });
  }
  const stage = event.target.closest('.sp-stage');
  if (!stage) return;
  const box = stage.querySelector('svg').getBoundingClientRect();
  const rows = Number(stage.closest('.sp').dataset.rows);
  wanted = Math.floor(((event.clientY - box.top) / box.height) * rows);
  show();
});
element.addEventListener('keydown', (event) => {
  const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!move || !event.target.closest('.sp-stage')) return;
  wanted = row + move;
  event.preventDefault();
  show();
});
// A page that has just arrived knows no row yet; our own changes must not call this again.
new MutationObserver(() => {
  const page = element.querySelector('.sp');
  if (page && !page.dataset.row) show();
}).observe(element, { childList: true, subtree: true });
show();
