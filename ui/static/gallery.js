// The pictures being written. One canvas a picture; what is not written yet is hatched.
const $ = (query) => element.querySelector(query);
const tiles = $('.sg-tiles'), status = $('.sg-status'), spoken = $('[role=status]'), original = $('template').innerHTML;
let data = null, sheet = null, order = 'written', picked = null, said = false;
let coming = null, decoding = null; // a value whose picture is not decoded yet, and that picture
let chosen = null; // the order that the visitor asked for; else each batch has its own

function receive() {
  const next = props.value;
  if (!next) return;
  if (!next.count) { // another sentence beside the pictures, also beside those still on their way
    said = true;
    status.innerHTML = spoken.innerHTML = next.status;
    if (next.waits) bringIntoSight($('.sg-bar'), 'center'); // it is said nowhere else; Stop stays in sight
    return;
  }
  said = false;
  if (alike(next, coming ?? data)) { // decoding it anew would hold back the picture that is on its way
    if (coming) coming = next;
    else arrive(next, false);
    return;
  }
  sheet = next.image ? sheet : null;
  coming = decoding = null;
  if (!next.image) return arrive(next);
  const image = new Image();
  coming = next;
  decoding = image;
  image.onload = () => {
    // A newer one is on its way. (props.value !== next says nothing: Gradio puts an equal copy there.)
    if (image !== decoding) return;
    const value = coming;
    coming = decoding = null;
    sheet = image;
    arrive(value);
  };
  image.src = next.image;
}

// Whether two values differ in their sentence at the most: several reports come between two pictures.
function alike(a, b) {
  const same = (key) => key === 'status' || a[key] === b[key] || JSON.stringify(a[key]) === JSON.stringify(b[key]);
  return Boolean(b) && Object.keys({ ...a, ...b }).every(same);
}

// Show a value whose picture, if it has one, is in `sheet`.
function arrive(next, anew = true) {
  const fresh = !data || next.number !== data.number;
  const begins = next.live && !(data && data.live), ends = data && data.live && !next.live;
  data = next;
  if (fresh && data.number) {
    picked = data.picked;
    order = chosen ?? (data.ranked ? 'likely' : 'written');
  }
  if (!said) status.innerHTML = data.status;
  if (!said && (begins || ends)) spoken.innerHTML = data.status; // not each row: nobody would hear one out
  if (anew) {
    lay();
    draw();
  }
  element.dataset.state = data.live ? 'live' : data.image ? 'done' : 'empty';
  element.dataset.shown = data.shown;
  element.dataset.batch = data.number || '';
  element.dataset.version = (Number(element.dataset.version) || 0) + 1;
  if (begins) bringIntoSight();
}

// What starts a run may stand far above or below, on a phone for one.
function bringIntoSight(part = element, block = 'nearest') {
  const { top, bottom } = element.getBoundingClientRect();
  if (top > 0.6 * innerHeight || bottom < 0.2 * innerHeight) part.scrollIntoView({ block, behavior: 'smooth' });
}

// One button a picture, in the order asked for.
function lay() {
  const sorted = order === 'likely' && data.order ? data.order : [...Array(data.count).keys()];
  tiles.className = `sg-tiles ${data.count < 3 ? 'few' : data.count < 8 ? 'some' : data.count < 17 ? 'several' : ''} ${data.titles ? 'titled' : ''}`;
  while (tiles.children.length > data.count) tiles.lastChild.remove();
  while (tiles.children.length < data.count) {
    const tile = document.createElement('button');
    tile.type = 'button';
    tile.innerHTML = '<canvas role="img"></canvas><span></span>';
    tiles.append(tile);
  }
  sorted.forEach((index, place) => {
    const tile = tiles.children[place], bits = data.bits && data.bits[index];
    tile.dataset.index = index;
    tile.disabled = !data.bits;
    tile.setAttribute('aria-pressed', index === picked && Boolean(data.bits));
    const given = data.original && index === 0, number = data.original ? index : index + 1; // as in the panel
    tile.firstChild.setAttribute('aria-label', given ? '' : number); // of the tile itself it would hide the text
    const title = data.titles ? `<b>${data.titles[index]}</b> ` : '';
    tile.lastChild.innerHTML = title + (bits ?? '') + (given ? ' ' + original : '');
  });
  for (const b of element.querySelectorAll('[data-order]')) {
    b.setAttribute('aria-pressed', b.dataset.order === order);
    b.disabled = !data.bits;
  }
  $('.sg-note').style.visibility = data.bits ? 'visible' : 'hidden';
}

function draw() {
  if (!data) return;
  const { rows, columns, across, count } = data;
  const down = Math.ceil(count / across);
  const width = sheet ? sheet.width / across : columns * 8, height = sheet ? sheet.height / down : rows * 8;
  const free = unwritten(width / columns, height / rows, data.shown);
  const first = data.original ? unwritten(width / columns, height / rows, data.begun) : free;
  for (const tile of tiles.children) {
    const canvas = tile.firstChild, index = Number(tile.dataset.index);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const ctx = canvas.getContext('2d');
    ctx.clearRect(0, 0, width, height);
    if (sheet) ctx.drawImage(sheet, (index % across) * width, Math.floor(index / across) * height, width, height, 0, 0, width, height);
    const left = index === 0 ? first : free;
    if (left) blank(ctx, left, width, height);
  }
}

// The cells that nothing is written in, as few rectangles of cells w x h; null where all are.
function unwritten(w, h, shown) {
  const { rows, columns } = data, kept = sheet && data.kept;
  if (shown >= rows * columns) return null;
  const path = new Path2D();
  if (!kept) { // what is left of the row that is being written, and all rows below
    const row = Math.floor(shown / columns), column = shown % columns;
    path.rect(column * w, row * h, (columns - column) * w, h);
    path.rect(0, (row + 1) * h, columns * w, (rows - row - 1) * h);
    return path;
  }
  for (let r = Math.floor(shown / columns); r < rows; r++) { // of a mask: each row's stretches
    for (let c = 0, start = 0; c <= columns; c++) {
      const i = r * columns + c;
      if (c < columns && i >= shown && !kept[i]) continue;
      if (c > start) path.rect(start * w, r * h, (c - start) * w, h);
      start = c + 1;
    }
  }
  return path;
}

// Clear and hatch what nothing is written in.
function blank(ctx, free, width, height) {
  ctx.save();
  ctx.clip(free);
  ctx.clearRect(0, 0, width, height);
  ctx.strokeStyle = 'rgba(128,122,110,.45)';
  ctx.lineWidth = 1;
  const side = Math.max(width, height);
  ctx.beginPath();
  for (let k = -side; k < 2 * side; k += 8) {
    ctx.moveTo(k, 0);
    ctx.lineTo(k + side, side);
  }
  ctx.stroke();
  ctx.restore();
}

element.addEventListener('click', (event) => {
  const sorter = event.target.closest('[data-order]'), tile = event.target.closest('[data-index]');
  if (sorter && data.bits) {
    order = chosen = sorter.dataset.order;
    lay();
    draw();
  } else if (tile && data.bits) {
    picked = Number(tile.dataset.index);
    lay();
    trigger('pick', { picture: picked, batch: data.number });
  }
});
watch('value', receive);
receive();
