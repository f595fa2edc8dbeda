// One code at a time: the picture so far, and the candidates for its next cell.
const $ = (query) => element.querySelector(query);
const canvas = $('canvas'), list = $('.st-candidates'), was = $('template').innerHTML;
let data = null, picture = null, hover = -1;

function receive() {
  const next = props.value;
  if (!next || !next.image) return;
  const image = new Image();
  image.onload = () => {
    data = next;
    picture = image;
    hover = -1;
    $('.st-where').innerHTML = data.where;
    $('.st-others').innerHTML = data.others;
    offer();
    draw();
    element.dataset.codes = data.codes.join(' ');
    element.dataset.version = (Number(element.dataset.version) || 0) + 1;
  };
  image.src = next.image;
}

function offer() {
  const held = element.contains(document.activeElement) ? document.activeElement : null;
  const place = [...list.children].indexOf(held);
  const top = Math.max(...data.candidates.flatMap((c) => [c.before, c.after]), 1e-9);
  list.replaceChildren(...data.candidates.map((c) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.code = c.code;
    button.className = c.after ? '' : 'out';
    button.innerHTML = `<img alt="" src="${c.image}"><b>${c.code}</b><small>${c.was ? was : ''}</small>
      <span class="before"><i style="width:${(100 * c.before) / top}%"></i><em>${c.beforeText}</em></span>
      <span class="after"><i style="width:${(100 * c.after) / top}%"></i><em>${c.afterText}</em></span>`;
    return button;
  }));
  const whole = !data.candidates.length, none = data.codes.length <= data.given;
  for (const b of element.querySelectorAll('[data-draw]')) b.disabled = whole;
  for (const b of element.querySelectorAll('[data-back]')) b.disabled = none;
  $('.st-legend').style.visibility = whole ? 'hidden' : 'visible';
  if (!held || (held.isConnected && !held.disabled)) return;
  // The keyboard stays where it was, or at what can be done next.
  (list.children[place] ?? $(whole ? '[data-back=one]' : '[data-draw=one]')).focus({ preventScroll: true });
}

function draw() {
  if (!data) return;
  const scale = Math.max(1, Math.round(512 / picture.width));
  canvas.width = picture.width * scale;
  canvas.height = picture.height * scale;
  const { rows, columns, codes, given } = data;
  const ctx = canvas.getContext('2d'), w = canvas.width / columns, h = canvas.height / rows;
  const at = (i) => [(i % columns) * w, Math.floor(i / columns) * h];
  const line = 'rgba(128,122,110,.45)';
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(picture, 0, 0, canvas.width, canvas.height);
  ctx.save();
  ctx.beginPath();
  for (let i = codes.length; i < rows * columns; i++) ctx.rect(...at(i), w, h);
  ctx.clip();
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.strokeStyle = line;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let k = -canvas.height; k < canvas.width; k += 10) {
    ctx.moveTo(k, 0);
    ctx.lineTo(k + canvas.height, canvas.height);
  }
  ctx.stroke();
  ctx.restore();
  if (hover >= given && hover < codes.length) {
    ctx.fillStyle = 'rgba(255,255,255,.6)'; // what going back there would take away
    for (let i = hover; i < codes.length; i++) ctx.fillRect(...at(i), w, h);
  }
  if (codes.length < rows * columns) {
    const [x, y] = at(codes.length);
    for (const [colour, width] of [['rgba(0,0,0,.7)', 5], ['#ff9f1c', 3]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.strokeRect(x + 2, y + 2, w - 4, h - 4);
    }
  }
}

function cellOf(event) {
  const box = canvas.getBoundingClientRect();
  const r = Math.floor(((event.clientY - box.top) / box.height) * data.rows);
  const c = Math.floor(((event.clientX - box.left) / box.width) * data.columns);
  return r * data.columns + c;
}

canvas.addEventListener('pointermove', (event) => {
  if (!data || event.pointerType === 'touch') return;
  const cell = cellOf(event);
  if (cell === hover) return;
  hover = cell;
  canvas.style.cursor = cell >= data.given && cell < data.codes.length ? 'pointer' : 'default';
  draw();
});
canvas.addEventListener('pointerleave', () => {
  hover = -1;
  draw();
});
element.addEventListener('click', (event) => {
  if (!data) return;
  if (event.target === canvas) {
    const cell = cellOf(event);
    if (cell < data.codes.length) trigger('act', { cell });
    return;
  }
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.code) trigger('act', { code: Number(button.dataset.code), at: data.codes.length });
  else if (button.dataset.draw) trigger('act', { draw: button.dataset.draw });
  else if (button.dataset.back) trigger('act', { back: button.dataset.back });
});
watch('value', receive);
receive();
