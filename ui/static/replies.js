// Answers show in the order of their clicks. Gradio asks its queue, and keeps what it hears of an
// event until the reply that names it. Where that one is late (a line that lost it once), an answer
// that was there long ago came over newer ones, beside their figures. So each reply waits for those
// before it, but not for long: that line may be dead.
(() => {
  const PATIENCE = 10_000, ask = window.fetch;
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  let before = Promise.resolve();
  window.fetch = (what, how) => {
    const reply = ask(what, how);
    if (!/\/queue\/join(\?|$)/.test(what?.url ?? what)) return reply;
    const turn = before, read = reply.then((r) => r.clone().text()).catch(() => {});
    // The pause: by then Gradio has read it too.
    before = Promise.race([Promise.all([turn, read]), pause(PATIENCE)]).then(() => pause(0));
    return turn.then(() => reply);
  };
})();
