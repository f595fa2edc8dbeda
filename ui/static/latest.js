// Answers to quick clicks may overtake each other, on the page and on the server. Once all are
// there, the last click asks again: `latest(send, name)` sends, and the event `name` says "answered".
function latest(send, name) {
  let asked = 0, crossed = false, last = null;
  window.addEventListener(name, () => {
    asked = Math.max(0, asked - 1);
    if (asked || !crossed) return;
    crossed = false;
    ask(last);
  });
  window.addEventListener('studio:lost', () => { asked = 0; crossed = false; }); // no answer comes
  const ask = (data) => {
    crossed ||= asked > 0;
    asked += 1;
    last = data;
    send(data);
  };
  return ask;
}
