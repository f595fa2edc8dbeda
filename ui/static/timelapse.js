// The training time-lapse: pictures are fetched when they are first looked at.
const $ = (query) => element.querySelector(query);
const slider = $('input'), output = $('output'), picture = $('img'), play = $('button');
const moments = props.value || [], kept = new Map();
let wanted = moments.length - 1, timer = null, again = null;

const chinese = () => document.documentElement.lang.startsWith('zh');
const LOSSES = { pixels: ['pixels', '像素'], vgg: ['VGG', 'VGG'], gan: ['GAN', 'GAN'] };
function when({ minutes, step, psnr, losses }) {
  const zh = chinese(), h = Math.floor(minutes / 60), m = Math.round(minutes % 60);
  const time = zh ? `${h ? h + ' 小时 ' : ''}${m} 分钟` : `${h ? h + ' h ' : ''}${m} min`;
  const said = zh ? [`训练 ${time}后`, `第 ${step.toLocaleString()} 步`] : [`after ${time}`, `step ${step.toLocaleString()}`];
  if (psnr !== null) said.push(`${psnr.toFixed(1)} dB`);
  if (losses.length) said.push((zh ? '损失：' : 'loss: ') + losses.map((name) => LOSSES[name][zh ? 1 : 0]).join(' + '));
  return said.join(' · ');
}

const tell = () => (output.textContent = when(moments[wanted]));

async function show(number) {
  wanted = number;
  slider.value = number;
  tell();
  if (!kept.has(number)) kept.set(number, Promise.resolve(server.frame(number)).catch(() => null));
  const url = await kept.get(number);
  if (!url) kept.delete(number); // the request failed: it can be asked for again
  if (wanted !== number) return; // the visitor has moved on
  clearTimeout(again);
  if (!url) return void (again = setTimeout(() => wanted === number && show(number), 1000));
  picture.src = url;
  element.dataset.shown = number;
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.setAttribute('aria-pressed', false);
}

slider.max = moments.length - 1;
slider.addEventListener('input', () => {
  stop();
  show(Number(slider.value));
});
play.addEventListener('click', () => {
  if (timer) return stop();
  play.setAttribute('aria-pressed', true);
  let next = wanted === moments.length - 1 ? 0 : wanted + 1;
  timer = setInterval(() => (next < moments.length ? show(next++) : stop()), 500);
});
new MutationObserver(() => output.textContent && tell()).observe(document.documentElement, {
  attributes: true, attributeFilter: ['lang'],
});
new IntersectionObserver((seen, observer) => {
  if (!seen.some((s) => s.isIntersecting)) return;
  observer.disconnect();
  show(wanted);
}).observe(element);
