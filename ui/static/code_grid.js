// The code grid: draws a picture with its codes, and turns clicks and strokes into events.
// Drawing, tools and hints live here; codes change on the server only, which sends a new value.
const $ = (query) => element.querySelector(query);
const stage = $('.cg-stage'), canvas = $('.cg-picture'), tip = $('.cg-tip');
const panel = $('.cg-brush'), swatch = $('.cg-swatch'), number = $('input'), palette = $('.cg-palette canvas');
const READABLE = 24; // CSS pixels a cell needs to hold a number of four digits
const state = {
  data: null, picture: new Image(), cell: 0, tool: 'look', brush: null, picked: null,
  hover: null, cursor: null, pressed: null, stroke: null, numbers: true, sheet: null,
  finger: null, // the pointer that is down: a second one is none of its stroke
};
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const chinese = () => document.documentElement.lang.startsWith('zh');
const say = (en, zh) => (chinese() ? zh : en);
const modified = (event) => event.ctrlKey || event.metaKey || event.altKey; // the browser's own shortcuts
const codeAt = ([row, column]) => state.data.grid[row][column];
const same = (a, b) => a && b && a[0] === b[0] && a[1] === b[1];
const sameShape = (a, b) => a.grid.length === b.grid.length && a.grid[0].length === b.grid[0].length;

function receive() {
  const data = props.value;
  if (!data || !data.grid) return;
  const picture = new Image();
  picture.onload = () => {
    // A stroke that is still being drawn stays: this is the answer to an earlier one.
    const drawing = state.stroke && !state.stroke.sent && sameShape(data, state.data);
    // The pointer may rest on a cell that the new picture does not have.
    if (!state.data || !sameShape(data, state.data)) Object.assign(state, { hover: null, cursor: null, pressed: null });
    Object.assign(state, { data, picture, stroke: drawing ? state.stroke : null, light: lightness(picture, data) });
    if (state.brush === null) {
      state.picked = data.picked;
      setBrush(data.picked);
    }
    number.max = data.codes - 1;
    $('[data-act=undo]').disabled = !data.undo;
    $('[data-act=restore]').disabled = !data.changed.length;
    showTip(tip.hidden ? null : state.hover || state.cursor);
    element.dataset.picture = data.picture; // for events that do not come from here (ui/kept.py)
    element.dataset.version = (Number(element.dataset.version) || 0) + 1;
    draw();
    drawSwatch();
  };
  picture.src = data.image;
}

// --- drawing -------------------------------------------------------------------------------------

function draw() {
  if (!state.data) return;
  const { grid, f, width, height, changed } = state.data;
  const rows = grid.length, columns = grid[0].length, ratio = window.devicePixelRatio || 1;
  const room = Math.min(stage.clientWidth, (560 * columns) / rows);
  if (room < 1) return; // not laid out yet, e.g. in another tab
  const cell = room / columns;
  state.cell = cell;
  canvas.style.width = columns * cell + 'px';
  canvas.style.height = rows * cell + 'px';
  canvas.width = Math.round(columns * cell * ratio);
  canvas.height = Math.round(rows * cell * ratio);
  const ctx = canvas.getContext('2d');
  ctx.setTransform(canvas.width / columns, 0, 0, canvas.height / rows, 0, 0); // 1 unit = 1 cell
  ctx.imageSmoothingEnabled = false;
  ctx.fillStyle = 'rgba(128,128,128,.25)'; // cells that reach beyond the picture's edge
  ctx.fillRect(0, 0, columns, rows);
  ctx.clearRect(0, 0, width / f, height / f);
  ctx.drawImage(state.picture, 0, 0, width / f, height / f);
  const px = columns / canvas.width;
  if (cell >= 7) lines(ctx, rows, columns, px);
  $('[data-act=numbers]').parentElement.hidden = cell < READABLE;
  if (state.numbers && cell >= READABLE) figures(ctx, grid, cell);
  for (const at of changed) dot(ctx, at);
  if (state.picked !== null) {
    forEachCell((at) => codeAt(at) === state.picked && box(ctx, at, px * ratio, '#ff9f1c'));
  }
  if (state.stroke) for (const at of state.stroke.cells) preview(ctx, at);
  if (state.hover) box(ctx, state.hover, px * ratio, '#fff');
  if (state.cursor && document.activeElement === canvas) box(ctx, state.cursor, px * ratio, '#fff');
}

function forEachCell(visit) {
  state.data.grid.forEach((row, r) => row.forEach((_, c) => visit([r, c])));
}

function lines(ctx, rows, columns, px) {
  for (const [colour, shift] of [['rgba(0,0,0,.28)', 0], ['rgba(255,255,255,.28)', px]]) {
    ctx.fillStyle = colour;
    for (let c = 1; c < columns; c++) ctx.fillRect(c + shift, 0, px, rows);
    for (let r = 1; r < rows; r++) ctx.fillRect(0, r + shift, columns, px);
  }
}

// In pixels, not in cells: WebKit rounds each figure's width to whole units.
function figures(ctx, grid, cell) {
  const digits = String(state.data.codes - 1).length; // five need smaller ones
  const side = canvas.width / grid[0].length;
  ctx.save();
  ctx.scale(1 / side, 1 / side);
  ctx.font = `600 ${side * Math.max(0.29, Math.min(0.34, 11 / cell, 1.5 / digits))}px ui-monospace, Menlo, Consolas, monospace`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'middle';
  ctx.lineJoin = 'round';
  ctx.lineWidth = 0.09 * side;
  forEachCell(([r, c]) => {
    const light = state.light[r * grid[0].length + c];
    ctx.fillStyle = light ? 'rgba(0,0,0,.7)' : 'rgba(255,255,255,.92)';
    ctx.strokeStyle = light ? 'rgba(255,255,255,.55)' : 'rgba(0,0,0,.5)';
    ctx.strokeText(grid[r][c], (c + 0.5) * side, (r + 0.53) * side);
    ctx.fillText(grid[r][c], (c + 0.5) * side, (r + 0.53) * side);
  });
  ctx.restore();
}

// For each cell, whether dark figures can be read on it.
function lightness(picture, { grid, f, width, height }) {
  const rows = grid.length, columns = grid[0].length;
  const small = Object.assign(document.createElement('canvas'), { width: columns, height: rows });
  const ctx = small.getContext('2d');
  ctx.imageSmoothingQuality = 'high';
  ctx.fillStyle = '#fff'; // behind a cell that reaches beyond the picture's edge
  ctx.fillRect(0, 0, columns, rows);
  ctx.drawImage(picture, 0, 0, width / f, height / f);
  const { data } = ctx.getImageData(0, 0, columns, rows);
  return Array.from({ length: rows * columns }, (_, i) => 0.3 * data[4 * i] + 0.6 * data[4 * i + 1] + 0.1 * data[4 * i + 2] > 125);
}

function box(ctx, [r, c], px, colour) {
  ctx.lineWidth = 4 * px;
  ctx.strokeStyle = 'rgba(0,0,0,.75)';
  ctx.strokeRect(c + 2 * px, r + 2 * px, 1 - 4 * px, 1 - 4 * px);
  ctx.lineWidth = 2 * px;
  ctx.strokeStyle = colour;
  ctx.strokeRect(c + 2 * px, r + 2 * px, 1 - 4 * px, 1 - 4 * px);
}

function dot(ctx, [r, c]) {
  ctx.fillStyle = '#ff9f1c';
  ctx.fillRect(c + 0.06, r + 0.06, 0.14, 0.14);
}

function preview(ctx, at) {
  ctx.globalAlpha = 0.85;
  drawCode(ctx, state.stroke.code, at[1], at[0], 1);
  ctx.globalAlpha = 1;
}

// A code's look: its decoded cell where the sheet of all codes is loaded, else where it stands in
// the picture, else plain grey.
function drawCode(ctx, code, x, y, size) {
  ctx.imageSmoothingEnabled = false;
  const { f, grid } = state.data;
  if (state.sheet) {
    const [r, c] = state.sheet.where.get(code);
    return ctx.drawImage(state.sheet.picture, c * f, r * f, f, f, x, y, size, size);
  }
  for (let r = 0; r < grid.length; r++) {
    const c = grid[r].indexOf(code);
    if (c >= 0) return ctx.drawImage(state.picture, c * f, r * f, f, f, x, y, size, size);
  }
  ctx.fillStyle = '#888';
  ctx.fillRect(x, y, size, size);
}

function drawSwatch() {
  if (state.data && state.brush !== null) drawCode(swatch.getContext('2d'), state.brush, 0, 0, 32);
}

// --- tools ---------------------------------------------------------------------------------------

function setTool(tool) {
  state.tool = tool;
  for (const b of element.querySelectorAll('[data-tool]')) b.setAttribute('aria-pressed', b.dataset.tool === tool);
  for (const h of element.querySelectorAll('[data-for]')) h.hidden = h.dataset.for !== tool;
  panel.hidden = tool !== 'paint' && tool !== 'swap';
  canvas.style.touchAction = tool === 'look' || tool === 'swap' ? 'manipulation' : 'none';
  canvas.dataset.tool = tool;
  if (!panel.hidden) loadSheet();
}

function setBrush(code) {
  state.brush = code;
  number.value = code;
  drawSwatch();
  drawPalette();
}

const look = latest((data) => change('look', data), 'studio:looked');
function pick(code, at) {
  state.picked = code;
  setBrush(code);
  draw();
  look({ code, cell: at });
}

// What changes codes says of which picture: the server may have another one by now.
const change = (name, data) => trigger(name, { ...data, picture: state.data?.picture });

function use(at) {
  const code = codeAt(at);
  if (state.tool === 'look') pick(code, at);
  else if (state.tool === 'swap') {
    if (code !== state.brush) change('swap', { old: code, new: state.brush });
  } else {
    state.stroke = { tool: state.tool, code: state.tool === 'erase' ? state.data.blank : state.brush, cells: [at] };
    showTip(null);
    draw();
  }
}

function extend(to) {
  const cells = state.stroke.cells, from = cells[cells.length - 1];
  const steps = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
  for (let i = 1; i <= steps; i++) {
    const at = [0, 1].map((k) => Math.round(from[k] + ((to[k] - from[k]) * i) / steps));
    cells.push(at);
  }
  if (steps) draw();
}

function finish() {
  if (!state.stroke || state.stroke.sent) return;
  state.stroke.sent = true;
  const { tool, code, cells } = state.stroke;
  const unique = [...new Map(cells.map((at) => [at.join(), at])).values()];
  change('stroke', { tool, code, cells: unique });
}

// --- the sheet of all codes ----------------------------------------------------------------------

// Gradio answers undefined where a request failed. Then it is asked for again, while it is wanted.
async function loadSheet() {
  if (panel.hidden || state.sheet || state.loading) return;
  state.loading = true;
  const sheet = await Promise.resolve(server.palette()).catch(() => null);
  if (!sheet) {
    state.loading = false;
    return void setTimeout(loadSheet, 1000);
  }
  const picture = new Image();
  picture.onload = () => {
    const where = new Map();
    sheet.grid.forEach((row, r) => row.forEach((code, c) => code >= 0 && where.set(code, [r, c])));
    state.sheet = { ...sheet, picture, where };
    $('.cg-wait').hidden = true;
    palette.hidden = false;
    drawPalette();
    drawSwatch();
  };
  picture.src = sheet.image;
}

function drawPalette() {
  if (!state.sheet) return;
  const { picture, grid, where } = state.sheet;
  palette.width = picture.width;
  palette.height = picture.height;
  const ctx = palette.getContext('2d'), f = picture.width / grid[0].length;
  ctx.drawImage(picture, 0, 0);
  const at = where.get(state.brush);
  if (at) {
    ctx.lineWidth = f / 4;
    for (const [colour, grow] of [['#000', f / 4], ['#ff9f1c', 0]]) {
      ctx.strokeStyle = colour;
      ctx.strokeRect(at[1] * f - grow, at[0] * f - grow, f + 2 * grow, f + 2 * grow);
    }
  }
}

palette.addEventListener('click', (event) => {
  if (!state.sheet) return;
  const { grid } = state.sheet, frame = palette.getBoundingClientRect();
  const c = Math.floor(((event.clientX - frame.left) / frame.width) * grid[0].length);
  const r = Math.floor(((event.clientY - frame.top) / frame.height) * grid.length);
  const code = grid[r] && grid[r][c];
  if (code >= 0) setBrush(code);
});

palette.addEventListener('keydown', (event) => {
  const move = MOVES[event.key];
  if (!state.sheet || !move || modified(event)) return;
  const [r, c] = state.sheet.where.get(state.brush);
  const code = (state.sheet.grid[r + move[0]] || [])[c + move[1]];
  if (code >= 0) setBrush(code);
  event.preventDefault();
});

// --- pointer and keys ----------------------------------------------------------------------------

function cellOf(event) {
  const frame = canvas.getBoundingClientRect(), { grid } = state.data;
  const row = Math.floor(((event.clientY - frame.top) / frame.height) * grid.length);
  const column = Math.floor(((event.clientX - frame.left) / frame.width) * grid[0].length);
  return [Math.min(Math.max(row, 0), grid.length - 1), Math.min(Math.max(column, 0), grid[0].length - 1)];
}

function showTip(at) {
  tip.hidden = !at;
  if (!at) return;
  tip.textContent = say(
    `code ${codeAt(at)} · row ${at[0] + 1}, column ${at[1] + 1}`,
    `码 ${codeAt(at)} · 第 ${at[0] + 1} 行，第 ${at[1] + 1} 列`,
  );
  const left = canvas.offsetLeft + (at[1] + 0.5) * state.cell;
  tip.style.left = Math.min(Math.max(left, 80), stage.clientWidth - 80) + 'px';
  tip.style.top = canvas.offsetTop + at[0] * state.cell - 6 + 'px';
}

canvas.addEventListener('pointerdown', (event) => {
  if (!state.data || event.button || (state.stroke && !state.stroke.sent)) return;
  state.finger = event.pointerId;
  state.cursor = cellOf(event);
  // Where a finger only wants to scroll the page, the browser cancels: no click then.
  if (state.tool === 'look' || state.tool === 'swap') return void (state.pressed = state.cursor);
  use(state.cursor);
  if (state.stroke) canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener('pointermove', (event) => {
  if (!state.data) return;
  const at = cellOf(event), moved = !same(at, state.hover);
  state.hover = at;
  if (state.stroke && !state.stroke.sent) return void (event.pointerId === state.finger && extend(at));
  if (!moved) return;
  showTip(at);
  draw();
});
for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) canvas.addEventListener(end, (event) => {
  if (event.pointerId !== state.finger) return;
  const pressed = end === 'pointerup' && state.pressed;
  Object.assign(state, { finger: null, pressed: null });
  if (pressed && same(pressed, cellOf(event))) use(pressed);
  finish();
});
canvas.addEventListener('pointerleave', () => {
  state.hover = null;
  showTip(null);
  draw();
});
canvas.addEventListener('focus', () => {
  if (!state.data || !canvas.matches(':focus-visible')) return;
  state.cursor ||= [0, 0];
  showTip(state.cursor);
  draw();
});
canvas.addEventListener('blur', () => {
  showTip(state.hover);
  draw();
});
canvas.addEventListener('keydown', (event) => {
  const undo = event.key === 'z' && (event.ctrlKey || event.metaKey);
  if (!state.data || (modified(event) && !undo)) return;
  const move = MOVES[event.key];
  const { grid } = state.data, [r, c] = state.cursor || [0, 0];
  if (move) {
    state.cursor = [
      (r + move[0] + grid.length) % grid.length,
      (c + move[1] + grid[0].length) % grid[0].length,
    ];
    showTip(state.cursor);
    draw();
  } else if (event.key === 'Enter' || event.key === ' ') {
    if (!event.repeat) {
      use([r, c]);
      finish();
    }
  } else if (undo) {
    if (state.data.undo) change('undo');
  } else return;
  event.preventDefault();
});

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.tool) setTool(button.dataset.tool);
  const act = button.dataset.act;
  if (act === 'undo') change('undo');
  if (act === 'shuffle') change('shuffle');
  if (act === 'restore') change('restore');
  if (act === 'numbers') {
    state.numbers = !state.numbers;
    button.setAttribute('aria-pressed', state.numbers);
    draw();
  }
});
number.addEventListener('change', () => {
  const code = Math.min(Math.max(Math.round(Number(number.value)), 0), state.data.codes - 1);
  setBrush(number.value.trim() === '' ? state.brush : code);
});
// Another part of the page may choose the brush: the cards of similar codes do.
window.addEventListener('studio:code', (event) => pick(event.detail, null));

new ResizeObserver(draw).observe(stage);
// A stroke that was refused has no answer that would take its preview away.
window.addEventListener('studio:refused', () => {
  if (!state.stroke?.sent) return;
  state.stroke = null;
  draw();
});
watch('value', receive);
setTool('look');
receive();
