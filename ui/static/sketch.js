// Lines that the visitor draws. They are kept as they are drawn, on a canvas of SCALE pixels for each
// of the model's, and sent as one bit for each of the model's.
const $ = (query) => element.querySelector(query);
const SCALE = 3, PEN = 3, RUBBER = 12; // widths in pixels of the model
// Small sketches on 128 x 128: SVG paths.
const EXAMPLES = {
  apple: ['apple', '苹果', 'M64 38C52 24 22 28 18 58C14 90 40 116 54 114C60 113 62 110 64 110C66 110 68 113 74 114C88 116 114 90 110 58C106 28 76 24 64 38C63 28 66 18 72 12M66 26C74 12 90 12 96 14C94 24 82 32 68 30'],
  face: ['smiling face', '笑脸', 'M64 10A54 54 0 1 0 64.1 10ZM44 44V60M84 44V60M38 78C46 100 82 100 90 78'],
  house: ['house', '房子', 'M12 62L64 16L116 62M24 54V112H104V54M54 112V78H76V112M84 66H96V80H84Z'],
  fish: ['fish', '鱼', 'M10 66C26 34 72 30 92 62L118 40V92L92 70C72 100 26 98 10 66ZM30 58H34M56 44C66 54 66 78 56 88'],
  heart: ['heart', '心', 'M64 112C8 72 8 26 38 22C52 20 62 32 64 40C66 32 76 20 90 22C120 26 120 72 64 112Z'],
  mushroom: ['mushroom', '蘑菇', 'M12 66C14 8 114 8 116 66C100 74 28 74 12 66ZM46 70C50 90 44 104 40 112H88C84 104 78 90 82 70M40 44A8 8 0 1 0 40.1 44ZM76 30A9 9 0 1 0 76.1 30Z'],
};
const canvas = $('canvas'), ctx = canvas.getContext('2d', { willReadFrequently: true });
const words = $('.sk-words input'), pull = $('.sk-pull input');
const chinese = () => document.documentElement.lang.startsWith('zh');
let size = { width: 128, height: 128 }, tool = 'pen', pen = null, last = null, past = [];

const INK = '#1c1917'; // the stylesheet turns the canvas over in the dark

function reset() {
  canvas.width = size.width * SCALE;
  canvas.height = size.height * SCALE;
  ctx.lineCap = ctx.lineJoin = 'round';
}

function receive() {
  const next = props.value;
  if (!next) return;
  const same = next.width === size.width && next.height === size.height && canvas.width === size.width * SCALE;
  size = { width: next.width, height: next.height };
  $('.sk-words').hidden = !next.worded;
  if (!pull.dataset.set) {
    pull.max = next.most;
    pull.value = next.pull;
    pull.dataset.set = true;
  }
  told();
  if (!same) reset();
  if (next.lines) {
    remember();
    show(next.lines);
  }
  changed();
}

function show(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = INK;
  for (let i = 0; i < size.width * size.height; i++) {
    if ((bytes[i >> 3] >> (7 - (i & 7))) & 1) ctx.fillRect((i % size.width) * SCALE, Math.floor(i / size.width) * SCALE, SCALE, SCALE);
  }
}

// A pixel of the model is on a line where a third of it is.
function lines() {
  const alpha = ctx.getImageData(0, 0, canvas.width, canvas.height).data;
  const bytes = new Uint8Array((size.width * size.height) / 8);
  for (let y = 0; y < size.height; y++) for (let x = 0; x < size.width; x++) {
    let sum = 0;
    for (let dy = 0; dy < SCALE; dy++) for (let dx = 0; dx < SCALE; dx++) sum += alpha[((y * SCALE + dy) * canvas.width + x * SCALE + dx) * 4 + 3];
    const i = y * size.width + x;
    if (sum > 255 * 3) bytes[i >> 3] |= 128 >> (i & 7);
  }
  return btoa(String.fromCharCode(...bytes));
}

const told = () => ($('.sk-pull output').textContent = Number(pull.value).toFixed(1));
pull.addEventListener('input', told);

function remember() {
  past.push(ctx.getImageData(0, 0, canvas.width, canvas.height));
  if (past.length > 30) past.shift();
}

function changed() {
  $('[data-act=undo]').disabled = !past.length;
  element.dataset.version = (Number(element.dataset.version) || 0) + 1;
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
}

function stroke(to) {
  ctx.globalCompositeOperation = tool === 'pen' ? 'source-over' : 'destination-out';
  ctx.lineWidth = (tool === 'pen' ? PEN : RUBBER) * SCALE;
  ctx.strokeStyle = INK;
  ctx.beginPath();
  ctx.moveTo(...last);
  ctx.lineTo(...to);
  ctx.stroke();
  ctx.globalCompositeOperation = 'source-over';
  last = to;
}

canvas.addEventListener('pointerdown', (event) => {
  if (event.button || pen !== null) return; // one finger draws: a second is none of its lines
  pen = event.pointerId;
  remember();
  canvas.setPointerCapture(event.pointerId);
  last = at(event);
  stroke(last); // a touch is a dot
});
canvas.addEventListener('pointermove', (event) => {
  if (event.pointerId === pen) for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(at(one));
});
for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) canvas.addEventListener(end, (event) => {
  if (event.pointerId !== pen) return;
  pen = null;
  changed();
});

canvas.addEventListener('keydown', (event) => {
  if (event.key !== 'z' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (pen !== null) return; // not in the middle of a line
  acts.undo();
  changed();
});

const acts = {
  undo() {
    const before = past.pop();
    if (before) ctx.putImageData(before, 0, 0);
  },
  clear() {
    remember();
    ctx.clearRect(0, 0, canvas.width, canvas.height);
  },
  go() {
    trigger('sketch', { asked: { lines: lines(), words: props.value.worded ? words.value : '', pull: Number(pull.value) } });
  },
};
words.addEventListener('keydown', (event) => {
  // In Safari the Enter that takes a word over from an input method says so by this number alone.
  if (event.key === 'Enter' && !event.isComposing && event.keyCode !== 229) acts.go();
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.tool) {
    tool = button.dataset.tool;
    for (const b of element.querySelectorAll('[data-tool]')) b.setAttribute('aria-pressed', b === button);
  }
  acts[button.dataset.act]?.();
  if (button.dataset.example) draw(EXAMPLES[button.dataset.example][2]);
  if (button.dataset.act !== 'go') changed();
});

function draw(path) {
  acts.clear();
  ctx.save();
  ctx.scale((SCALE * size.width) / 128, (SCALE * size.height) / 128);
  ctx.lineWidth = PEN;
  ctx.strokeStyle = INK;
  ctx.stroke(new Path2D(path));
  ctx.restore();
}

for (const [key, [, , path]] of Object.entries(EXAMPLES)) {
  $('.sk-examples').insertAdjacentHTML('beforeend', `<button type="button" data-example="${key}"><svg viewBox="0 0 128 128"><path d="${path}"/></svg></button>`);
}

// What no stylesheet can hide: attributes have one language at a time.
function name() {
  words.placeholder = chinese() ? '红苹果' : 'a red apple';
  for (const button of element.querySelectorAll('[data-example]')) {
    button.title = EXAMPLES[button.dataset.example][chinese() ? 1 : 0];
    button.setAttribute('aria-label', button.title);
  }
}
name();
new MutationObserver(name).observe(document.documentElement, { attributes: true, attributeFilter: ['lang'] });
if (props.value) size = { width: props.value.width, height: props.value.height };
reset();
draw(EXAMPLES.apple[2]); // something to fill in at once
past = [];
watch('value', receive);
receive();
