// The training time-lapse: pictures are fetched when they are first looked at.
const $ = (query) => element.querySelector(query);
const slider = $('input'), output = $('output'), picture = $('img'), play = $('button');
const moments = props.value || [], kept = new Map();
let wanted = moments.length - 1, timer = null;

const chinese = () => document.documentElement.lang.startsWith('zh');
function when({ minutes, step }) {
  const h = Math.floor(minutes / 60), m = Math.round(minutes % 60);
  const time = chinese() ? `${h ? h + ' 小时 ' : ''}${m} 分钟` : `${h ? h + ' h ' : ''}${m} min`;
  return chinese() ? `训练 ${time}后 · 第 ${step.toLocaleString()} 步` : `after ${time} · step ${step.toLocaleString()}`;
}

async function show(number) {
  wanted = number;
  slider.value = number;
  output.textContent = when(moments[number]);
  if (!kept.has(number)) kept.set(number, server.frame(number));
  const url = await kept.get(number);
  if (wanted !== number) return; // the visitor has moved on
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
new IntersectionObserver((seen, observer) => {
  if (!seen.some((s) => s.isIntersecting)) return;
  observer.disconnect();
  show(wanted);
}).observe(element);
