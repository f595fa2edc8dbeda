// What Gradio's page lacks where the line to the app is bad.
(() => {
  const PATIENCE = 10_000, lost = /* lost */ '', send = window.fetch;
  const pause = (time) => new Promise((done) => setTimeout(done, time));

  // A click that does not arrive is refused in a sentence. Else Gradio takes all for lost, and once
  // the app can be reached again it loads the page anew, without what the visitor had on it.
  const refuse = () => new Response(JSON.stringify({ detail: lost, error: lost }), { status: 502 });
  const tell = () => { // of events outside its queue Gradio shows no errors
    document.querySelector('.line-lost')?.remove();
    const note = Object.assign(document.createElement('div'), { className: 'line-lost', role: 'alert', innerHTML: lost });
    document.body.append(note);
    window.dispatchEvent(new Event('studio:lost'));
    setTimeout(() => note.remove(), PATIENCE);
  };

  // Answers show in the order of their clicks. Gradio asks its queue, and keeps what it hears of an
  // event until the reply that names it. Where that one is late (a line that lost it once), an
  // answer that was there long ago came over newer ones, beside their figures. So each reply waits
  // for those before it, but not for long: that line may be dead.
  let before = Promise.resolve();
  const inTurn = (reply) => {
    const turn = before, read = reply.then((r) => r.clone().text()).catch(() => {});
    // The pause: by then Gradio has read it too.
    before = Promise.race([Promise.all([turn, read]), pause(PATIENCE)]).then(() => pause(0));
    return turn.then(() => reply);
  };

  window.fetch = (what, how) => {
    const [, kind] = /\/gradio_api\/(run\/|queue\/join(?=\?|$))/.exec(what?.url ?? what) ?? [];
    if (!kind) return send(what, how);
    if (kind !== 'run/') return inTurn(send(what, how).catch(refuse));
    return send(what, how).catch(() => { tell(); return refuse(); });
  };
})();
