// The surprise map: a tip with the bits of the cell under the pointer or the keyboard's cursor; a
// click or Enter picks its code.
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const zh = () => document.documentElement.lang.startsWith('zh');
const limit = (n, count) => Math.min(Math.max(n, 0), count - 1);
const map = () => element.querySelector('img[data-cells]');
let known = null; // the image's cells, parsed
let cursor = [0, 0]; // row and column of the keyboard

function cells() {
  const { cells } = map().dataset;
  if (known?.cells !== cells) known = { cells, ...JSON.parse(cells) };
  return known;
}

function at(event) {
  const image = event.target.closest?.('img[data-cells]');
  if (!image) return null;
  const { bits } = cells(), frame = image.getBoundingClientRect();
  const find = (from, size, count) => limit(Math.floor((from / size) * count), count);
  return [find(event.clientY - frame.top, frame.height, bits.length), find(event.clientX - frame.left, frame.width, bits[0].length)];
}

function show(found) {
  const tip = element.querySelector('.cg-tip');
  if (!tip) return;
  tip.hidden = !found;
  if (!found) return;
  const [row, column] = found, { bits, codes } = cells(), image = map();
  const told = bits[row][column].toFixed(1), code = codes[row][column];
  tip.textContent = zh()
    ? `${told} 比特 · 码 ${code} · 第 ${row + 1} 行，第 ${column + 1} 列`
    : `${told} bits · code ${code} · row ${row + 1}, column ${column + 1}`;
  const left = ((column + 0.5) * image.clientWidth) / bits[0].length, half = tip.offsetWidth / 2;
  tip.style.left = Math.min(Math.max(left, half), image.clientWidth - half) + 'px';
  tip.style.top = (row * image.clientHeight) / bits.length - 6 + 'px';
}

function ring([row, column]) {
  const { bits } = cells(), percent = (n, of) => (100 * n) / of + '%';
  const { length: rows } = bits, { length: columns } = bits[0], found = element.querySelector('.su-ring');
  Object.assign(found.style, { top: percent(row, rows), left: percent(column, columns), height: percent(1, rows), width: percent(1, columns) });
  found.hidden = false;
}

function pick([row, column]) {
  ring([row, column]);
  window.dispatchEvent(new CustomEvent('studio:code', { detail: cells().codes[row][column] }));
}

element.addEventListener('pointermove', (event) => show(at(event)));
element.addEventListener('pointerdown', (event) => show(at(event)));
element.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && show(null)); // a finger's tip stays
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-measure]')) return trigger('measure');
  const found = at(event);
  if (found) pick((cursor = found));
});
element.addEventListener('keydown', (event) => {
  if (event.target !== map() || event.ctrlKey || event.metaKey || event.altKey) return;
  const move = MOVES[event.key], { bits } = cells();
  if (!move && event.key !== 'Enter' && event.key !== ' ') return;
  event.preventDefault();
  cursor = cursor.map((n, i) => limit(n + (move ? move[i] : 0), i ? bits[0].length : bits.length));
  if (move) ring(cursor);
  else pick(cursor);
  show(cursor);
});
element.addEventListener('focusin', (event) => {
  if (event.target === map() && map().matches(':focus-visible')) show(cursor);
});
element.addEventListener('focusout', () => show(null));
