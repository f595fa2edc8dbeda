// The surprise map: a tip with the bits of the cell under the pointer, a click picks its code.
const zh = () => document.documentElement.lang.startsWith('zh');
let known = null; // the image whose cells are parsed, and they

function cells(image) {
  if (known?.image !== image) known = { image, ...JSON.parse(image.dataset.cells) };
  return known;
}

function at(event) {
  const image = event.target.closest?.('img[data-cells]');
  if (!image) return null;
  const { bits, codes } = cells(image), frame = image.getBoundingClientRect();
  const find = (from, size, count) => Math.min(Math.max(Math.floor((from / size) * count), 0), count - 1);
  const row = find(event.clientY - frame.top, frame.height, bits.length);
  const column = find(event.clientX - frame.left, frame.width, bits[0].length);
  return { image, row, column, bits: bits[row][column], code: codes[row][column], rows: bits.length, columns: bits[0].length };
}

function show(event) {
  const tip = element.querySelector('.cg-tip'), found = at(event);
  if (!tip) return;
  tip.hidden = !found;
  if (!found) return;
  const { image, row, column, bits, code, rows, columns } = found;
  tip.textContent = zh()
    ? `${bits.toFixed(1)} 比特 · 码 ${code} · 第 ${row + 1} 行，第 ${column + 1} 列`
    : `${bits.toFixed(1)} bits · code ${code} · row ${row + 1}, column ${column + 1}`;
  const left = ((column + 0.5) * image.clientWidth) / columns, half = tip.offsetWidth / 2;
  tip.style.left = Math.min(Math.max(left, half), image.clientWidth - half) + 'px';
  tip.style.top = (row * image.clientHeight) / rows - 6 + 'px';
}

element.addEventListener('pointermove', show);
element.addEventListener('pointerdown', show);
element.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && show(event)); // a finger's tip stays
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-measure]')) return trigger('measure');
  const found = at(event);
  if (!found) return;
  const { row, column, rows, columns } = found, percent = (n, of) => (100 * n) / of + '%';
  const ring = element.querySelector('.su-ring');
  Object.assign(ring.style, { top: percent(row, rows), left: percent(column, columns), height: percent(1, rows), width: percent(1, columns) });
  ring.hidden = false;
  window.dispatchEvent(new CustomEvent('studio:code', { detail: found.code }));
});
