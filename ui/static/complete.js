// A picture of which some cells are kept and the others (hatched) are to be written anew.
const $ = (query) => element.querySelector(query);
const canvas = $('canvas');
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
let data = null, picture = null, free = [], tool = 'rows', brush = null, last = null;
let cursor = [0, 0]; // the cell that Enter erases or keeps

function receive() {
  const next = props.value;
  if (!next || !next.image) return;
  const image = new Image();
  image.onload = () => {
    const same = data && data.rows === next.rows && data.columns === next.columns;
    data = next;
    picture = image;
    if (!same) {
      fromRow(data.rows / 2);
      cursor = [0, 0];
    }
    draw();
    element.dataset.version = (Number(element.dataset.version) || 0) + 1;
  };
  image.src = next.image;
}

function fromRow(row) {
  free = Array.from({ length: data.rows * data.columns }, (_, i) => Math.floor(i / data.columns) >= Math.floor(row));
}

function draw() {
  if (!data) return;
  const scale = Math.max(1, Math.round(384 / picture.width));
  canvas.width = picture.width * scale;
  canvas.height = picture.height * scale;
  const ctx = canvas.getContext('2d'), w = canvas.width / data.columns, h = canvas.height / data.rows;
  const style = getComputedStyle(element);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(picture, 0, 0, canvas.width, canvas.height);
  ctx.save();
  ctx.beginPath();
  free.forEach((is, i) => is && ctx.rect((i % data.columns) * w, Math.floor(i / data.columns) * h, w, h));
  ctx.clip();
  ctx.globalAlpha = 0.82;
  ctx.fillStyle = style.getPropertyValue('--background-fill-primary');
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = 'rgba(128,122,110,.45)';
  ctx.lineWidth = scale;
  ctx.beginPath();
  for (let k = -canvas.height; k < canvas.width; k += 8 * scale) {
    ctx.moveTo(k, 0);
    ctx.lineTo(k + canvas.height, canvas.height);
  }
  ctx.stroke();
  ctx.restore();
  if (tool !== 'rows' && canvas.matches(':focus-visible')) {
    for (const [colour, width] of [['rgba(0,0,0,.75)', 4], ['#fff', 2]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.strokeRect(cursor[1] * w + 2, cursor[0] * h + 2, w - 4, h - 4);
    }
  }
  element.dataset.free = free.filter(Boolean).length;
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientY - box.top) / box.height) * data.rows, ((event.clientX - box.left) / box.width) * data.columns];
}

// A brush of 2 x 2 cells: single cells are hard to hit.
function dab(r, c) {
  for (const y of [Math.round(r) - 1, Math.round(r)]) for (const x of [Math.round(c) - 1, Math.round(c)]) {
    if (y >= 0 && x >= 0 && y < data.rows && x < data.columns) free[y * data.columns + x] = tool === 'erase';
  }
}

// From where the brush was, without gaps: a quick drag tells of few places on its way.
function sweep([r, c]) {
  if (tool === 'rows') return fromRow(Math.min(Math.max(r, 0), data.rows - 1));
  const [r0, c0] = last ?? [r, c], steps = Math.max(1, Math.ceil(2 * Math.hypot(r - r0, c - c0)));
  for (let i = 1; i <= steps; i++) dab(r0 + ((r - r0) * i) / steps, c0 + ((c - c0) * i) / steps);
  last = [r, c];
}

const scrolls = (event) => tool === 'rows' && event.pointerType === 'touch';
canvas.addEventListener('pointerdown', (event) => {
  if (!data || event.button || brush !== null) return; // one finger erases: a second is none of its way
  brush = event.pointerId;
  if (scrolls(event)) return; // a row is chosen once the finger is lifted, and has not scrolled the page
  canvas.setPointerCapture(brush);
  last = null;
  sweep(at(event));
  draw();
});
canvas.addEventListener('pointermove', (event) => {
  if (event.pointerId !== brush || scrolls(event)) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) sweep(at(one));
  draw();
});
for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) canvas.addEventListener(end, (event) => {
  if (event.pointerId !== brush) return;
  brush = null;
  if (end !== 'pointerup' || !scrolls(event)) return;
  sweep(at(event));
  draw();
});
canvas.addEventListener('keydown', (event) => {
  const move = MOVES[event.key], press = event.key === 'Enter' || event.key === ' ';
  if (!data || event.ctrlKey || event.metaKey || event.altKey) return;
  if (tool === 'rows') {
    if (!move || move[1]) return;
    const first = free.indexOf(true), row = first < 0 ? data.rows : Math.floor(first / data.columns);
    fromRow(Math.min(Math.max(row + move[0], 0), data.rows));
  } else if (move) {
    cursor = cursor.map((n, i) => Math.min(Math.max(n + move[i], 0), (i ? data.columns : data.rows) - 1));
  } else if (press) {
    free[cursor[0] * data.columns + cursor[1]] = tool === 'erase';
  } else return;
  draw();
  event.preventDefault();
});
for (const name of ['focus', 'blur']) canvas.addEventListener(name, draw);
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || !data) return;
  if (button.dataset.tool) {
    tool = button.dataset.tool;
    canvas.style.touchAction = tool === 'rows' ? '' : 'none'; // else a finger scrolls the page
    for (const b of element.querySelectorAll('[data-tool]')) b.setAttribute('aria-pressed', b === button);
  }
  if (button.dataset.act === 'half') fromRow(data.rows / 2);
  if (button.dataset.act === 'all') free.fill(false);
  if (button.dataset.act === 'complete') trigger('complete', { free: free.map((is) => (is ? '1' : '0')).join('') });
  draw();
});
watch('value', receive);
receive();
