// The map of the codebook: every code's decoded cell in one picture, in an order the visitor picks.
// Orders, zoom and marks live here. Which code is open is the server's to say: `value.code`.
const $ = (query) => element.querySelector(query);
const stage = $('.cm-stage'), canvas = $('.cm-stage > canvas'), tip = $('.cm-tip'), number = $('input');
const state = {
  sheet: null, sources: {}, look: 'decoded', map: null, order: 'similarity', show: 'all', code: null, here: [],
  place: null, zoom: 1, centre: [0, 0], hover: null, drag: null, pinch: null,
};
const chinese = () => document.documentElement.lang.startsWith('zh');
const say = (en, zh) => (chinese() ? zh : en);
const grid = () => state.sheet.orders[state.order];

// --- what the server sends -----------------------------------------------------------------------

async function load() {
  if (state.sheet || state.loading || stage.clientWidth < 1) return;
  state.loading = true;
  const sheet = await Promise.resolve(server.sheet()).catch(() => null);
  if (!sheet) { // Gradio answers undefined where a request failed
    state.loading = false;
    return void setTimeout(load, 1000);
  }
  offer(sheet.counted);
  $('.cm-wait').hidden = !sheet.pending;
  if (sheet.pending) {
    state.loading = false;
    [$('progress').value, $('progress').max] = sheet.pending;
    $('.cm-left').innerHTML = sheet.left;
    return void setTimeout(load, 700);
  }
  for (const [look, url] of Object.entries(sheet.images)) {
    state.sources[look] = new Image();
    state.sources[look].src = url;
    await state.sources[look].decode();
  }
  state.sheet = sheet;
  number.max = sheet.codes - 1;
  $('[data-show=dead]').hidden = !sheet.counts || !sheet.counts.includes(0);
  if (state.show === 'dead' && $('[data-show=dead]').hidden) state.show = 'all'; // chosen while it was on its way
  arrange(state.order);
}

// What needs code statistics means nothing without them, also while the map is on its way.
function offer(counted) {
  for (const query of ['[data-order=usage]', '[data-group=look]', '[data-show=dead]']) $(query).hidden = !counted;
  if (counted) return;
  state.look = 'decoded';
  if (state.show === 'dead') state.show = 'all';
  if (state.order === 'usage') arrange('similarity');
}

function receive() {
  const { code, here } = props.value || {};
  state.here = here || [];
  $('[data-show=picture]').hidden = !state.here.length;
  if (code !== null && code !== undefined) open_(code, false);
  if (state.sheet) paint();
  else load();
}

// --- the map: cells in their order, drawn once ------------------------------------------------------

function arrange(order) {
  state.order = order;
  for (const b of element.querySelectorAll('[data-order]')) b.setAttribute('aria-pressed', b.dataset.order === order);
  for (const h of element.querySelectorAll('[data-for]')) h.hidden = h.dataset.for !== order;
  if (!state.sheet) return;
  state.place = new Map();
  grid().forEach((row, r) => row.forEach((code, c) => code >= 0 && state.place.set(code, [r, c])));
  state.centre = [grid().length / 2, grid()[0].length / 2];
  if (state.code !== null && state.zoom > 1) state.centre = middle(state.code);
  paint();
}

const middle = (code) => state.place.get(code).map((n) => n + 0.5);

function lit(code) {
  if (state.show === 'picture') return state.lit.has(code);
  return state.show === 'all' || state.sheet.counts[code] === 0;
}

function paint() {
  if (!state.sheet) return;
  if (state.show === 'picture' && !state.here.length) state.show = 'all';
  for (const b of element.querySelectorAll('[data-show]')) b.setAttribute('aria-pressed', b.dataset.show === state.show);
  for (const b of element.querySelectorAll('[data-look]')) b.setAttribute('aria-pressed', b.dataset.look === state.look);
  $('[data-real]').hidden = state.look !== 'real';
  state.lit = new Set(state.here);
  const { f, columns } = state.sheet, rows = grid();
  const map = document.createElement('canvas');
  map.width = rows[0].length * f;
  map.height = rows.length * f;
  const ctx = map.getContext('2d');
  rows.forEach((row, r) =>
    row.forEach((code, c) => {
      if (code < 0) return;
      ctx.globalAlpha = lit(code) ? 1 : 0.12;
      const x = (code % columns) * f, y = Math.floor(code / columns) * f;
      ctx.drawImage(state.sources[state.look], x, y, f, f, c * f, r * f, f, f);
    }),
  );
  state.map = map;
  element.dataset.version = (Number(element.dataset.version) || 0) + 1;
  draw();
}

// --- drawing: the part of the map in view -----------------------------------------------------------

function view() {
  const rows = grid().length, columns = grid()[0].length;
  const cell = (stage.clientWidth / columns) * state.zoom; // CSS pixels
  const seen = [rows / state.zoom, columns / state.zoom];
  state.centre = state.centre.map((n, i) => {
    const half = seen[i] / 2, size = i ? columns : rows;
    return Math.min(Math.max(n, half), size - half);
  });
  return { cell, top: state.centre[0] - seen[0] / 2, left: state.centre[1] - seen[1] / 2, rows, columns };
}

function draw() {
  if (!state.map || stage.clientWidth < 1) return;
  const { cell, top, left, rows, columns } = view(), ratio = window.devicePixelRatio || 1;
  const width = stage.clientWidth, height = (width * rows) / columns;
  canvas.style.height = height + 'px';
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.touchAction = state.zoom > 1 ? 'none' : 'pan-y';
  canvas.dataset.zoom = state.zoom;
  const ctx = canvas.getContext('2d'), { f } = state.sheet;
  ctx.imageSmoothingEnabled = cell * ratio < f;
  const span = [columns / state.zoom, rows / state.zoom];
  ctx.drawImage(state.map, left * f, top * f, span[0] * f, span[1] * f, 0, 0, canvas.width, canvas.height);
  ctx.scale(ratio, ratio);
  if (cell >= 14) gaps(ctx, cell, top, left, width, height);
  if (state.hover !== null && state.hover !== state.code) ring(ctx, state.hover, '#fff');
  if (state.code !== null) ring(ctx, state.code, '#ff9f1c');
}

function gaps(ctx, cell, top, left, width, height) {
  ctx.fillStyle = getComputedStyle(stage).getPropertyValue('--cm-gap') || '#fff';
  for (let x = (1 - (left % 1)) * cell; x < width; x += cell) ctx.fillRect(x - 0.5, 0, 1, height);
  for (let y = (1 - (top % 1)) * cell; y < height; y += cell) ctx.fillRect(0, y - 0.5, width, 1);
}

function ring(ctx, code, colour) {
  const { cell, top, left } = view(), [r, c] = state.place.get(code);
  const grow = Math.max(1, (12 - cell) / 2); // small cells get a ring that can be found
  const box = [(c - left) * cell - grow, (r - top) * cell - grow, cell + 2 * grow, cell + 2 * grow];
  ctx.lineWidth = 5;
  ctx.strokeStyle = 'rgba(0,0,0,.75)';
  ctx.strokeRect(...box);
  ctx.lineWidth = 2.5;
  ctx.strokeStyle = colour;
  ctx.strokeRect(...box);
}

function showTip(code) {
  tip.hidden = code === null;
  if (code === null) return;
  const { f, columns, counts, total } = state.sheet, ctx = tip.firstChild.getContext('2d');
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(state.sources[state.look], (code % columns) * f, Math.floor(code / columns) * f, f, f, 0, 0, 64, 64);
  const share = counts && (counts[code] ? `${((100 * counts[code]) / total).toPrecision(2)} %` : say('never used', '从未使用'));
  tip.lastChild.textContent = say(`code ${code}`, `码 ${code}`) + (counts ? ` · ${share}` : '');
  const { cell, top, left } = view(), [r, c] = state.place.get(code);
  const x = (c + 0.5 - left) * cell, y = (r - top) * cell;
  tip.style.left = Math.min(Math.max(x, 70), stage.clientWidth - 70) + 'px';
  tip.style.top = (y > 110 ? y - 8 : y + cell + 8) + 'px';
  tip.classList.toggle('below', y <= 110);
}

// --- pointer, keys, buttons ---------------------------------------------------------------------------

let asking = null;
const ask = latest((data) => trigger('pick', data), 'studio:opened');
function open_(code, tell = true, quick = false) {
  state.code = code;
  number.value = code;
  element.dataset.code = code;
  if (state.sheet) {
    const { top, left, rows, columns } = view(), [r, c] = state.place.get(code);
    const inside = r >= top && c >= left && r + 1 <= top + rows / state.zoom && c + 1 <= left + columns / state.zoom;
    if (!inside) state.centre = middle(code);
    draw();
  }
  clearTimeout(asking);
  if (tell) asking = setTimeout(() => ask({ code }), quick ? 90 : 0); // a held key asks once
}

function codeAt(event) {
  const frame = canvas.getBoundingClientRect(), { cell, top, left } = view();
  const r = Math.floor((event.clientY - frame.top) / cell + top), c = Math.floor((event.clientX - frame.left) / cell + left);
  const code = grid()[r] && grid()[r][c];
  return code === undefined || code < 0 ? null : code;
}

function zoomBy(factor, at) {
  if (!state.sheet) return;
  const most = Math.max(4, (grid()[0].length * 48) / stage.clientWidth);
  const zoom = Math.min(Math.max(state.zoom * factor, 1), most);
  const anchor = at || (state.code !== null ? middle(state.code) : state.centre);
  const keep = state.zoom / zoom; // the anchor stays where it is on the screen, or comes to the middle
  state.centre = at ? anchor.map((n, i) => n + (state.centre[i] - n) * keep) : anchor;
  state.zoom = zoom;
  draw();
}

const pointers = new Map();
const spread = () => {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
};
canvas.addEventListener('pointerdown', (event) => {
  if (!state.sheet || event.button) return;
  pointers.set(event.pointerId, event);
  state.drag = { x: event.clientX, y: event.clientY, centre: [...state.centre], moved: pointers.size > 1 };
  state.pinch = pointers.size === 2 ? spread() : null;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (!state.sheet) return;
  if (pointers.has(event.pointerId)) pointers.set(event.pointerId, event);
  if (pointers.size === 2) {
    zoomBy(spread() / state.pinch, state.centre);
    state.pinch = spread();
  } else if (state.drag && pointers.size) {
    const { cell } = view(), dx = event.clientX - state.drag.x, dy = event.clientY - state.drag.y;
    if (Math.hypot(dx, dy) > 5) state.drag.moved = true;
    if (!state.drag.moved || state.zoom === 1) return;
    state.centre = [state.drag.centre[0] - dy / cell, state.drag.centre[1] - dx / cell];
    draw();
  } else {
    const code = codeAt(event);
    if (code === state.hover) return;
    state.hover = code;
    showTip(event.pointerType === 'mouse' ? code : null);
    draw();
  }
});
// Of two fingers the one that stays goes on from where it is.
function lift(event) {
  pointers.delete(event.pointerId);
  const [stays] = pointers.values();
  state.drag = stays ? { x: stays.clientX, y: stays.clientY, centre: [...state.centre], moved: true } : null;
}
canvas.addEventListener('pointerup', (event) => {
  const drag = state.drag;
  lift(event);
  if (pointers.size || !drag || drag.moved) return;
  const code = codeAt(event);
  if (code !== null) open_(code);
});
canvas.addEventListener('pointercancel', lift);
canvas.addEventListener('pointerleave', () => {
  state.hover = null;
  showTip(null);
  draw();
});
canvas.addEventListener(
  'wheel',
  (event) => {
    if (!event.ctrlKey || !state.sheet) return; // the page keeps its own scrolling
    event.preventDefault();
    const frame = canvas.getBoundingClientRect(), { cell, top, left } = view();
    zoomBy(2 ** (-event.deltaY / 200), [
      (event.clientY - frame.top) / cell + top,
      (event.clientX - frame.left) / cell + left,
    ]);
  },
  { passive: false },
);
canvas.addEventListener('keydown', (event) => {
  if (!state.sheet || event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own shortcuts
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (event.key === '+' || event.key === '-') zoomBy(event.key === '+' ? 2 : 0.5);
  else if (move) {
    const [r, c] = state.code === null ? [0, -move[1]] : state.place.get(state.code);
    const code = (grid()[r + move[0]] || [])[c + move[1]];
    if (code >= 0) open_(code, true, event.repeat);
  } else return;
  event.preventDefault();
});

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.order) arrange(button.dataset.order);
  if (button.dataset.show) {
    state.show = button.dataset.show;
    paint();
  }
  if (button.dataset.look) {
    state.look = button.dataset.look;
    paint();
  }
  if (button.dataset.zoom) zoomBy(Number(button.dataset.zoom));
});
number.addEventListener('change', () => {
  if (!state.sheet) return;
  if (number.value.trim() === '') return void (number.value = state.code);
  open_(Math.min(Math.max(Math.round(Number(number.value)), 0), state.sheet.codes - 1));
});
// The page about a code names others; a click on one of them opens it.
window.addEventListener('codebook:code', (event) => open_(event.detail));

new ResizeObserver(() => (state.sheet ? draw() : load())).observe(stage);
// The lines between cells have the page's colour.
new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ['class'] });
watch('value', receive);
arrange(state.order);
receive();
