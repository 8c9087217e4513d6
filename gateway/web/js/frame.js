// One pass over what changed per animation frame. A hidden tab has no frames, so nothing is drawn there.

/** `frames`: passes that drew something; `drawn`: objects drawn; `asked`: how often somebody wanted to be drawn. */
export const frames = { frames: 0, drawn: 0, asked: 0 };

let dirty = new Set();
let planned = false;

/** Have `view.draw()` called once in the next frame, however often this is called before. */
export function redraw(view) {
  frames.asked += 1;
  dirty.add(view);
  if (!planned) {
    planned = true;
    requestAnimationFrame(pass);
  }
}

/** Forget a view that is gone. */
export function forget(view) {
  dirty.delete(view);
}

function pass() {
  const views = dirty;
  dirty = new Set();
  planned = false;
  frames.frames += 1;
  for (const view of views) {
    frames.drawn += 1;
    view.draw();
  }
}

/** Call `tick` every `ms` while the page is visible; returns what stops it. */
export function every(ms, tick) {
  let timer = null;
  const follow = () => {
    clearInterval(timer);
    timer = document.hidden ? null : setInterval(tick, ms);
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", follow);
  };
}
