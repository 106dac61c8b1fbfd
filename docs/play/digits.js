// The page "Digits from a network": an ONNX graph of the velocity u(x, t, y), followed from noise, or around half a digit.
"use strict";

(() => {
  const SIDE = 8, PIXELS = SIDE * SIDE, COUNT = 10, NULL = 10; // images, drawn at once, and the label of "none"
  const HALVES = {
    upper: (row) => row < SIDE / 2, lower: (row) => row >= SIDE / 2,
    left: (_, column) => column < SIDE / 2, right: (_, column) => column >= SIDE / 2,
  };
  const state = { label: "all", w: 2, steps: 12, method: "heun", half: "none", seed: 0, t: 1 };
  const labels = Array.from({ length: 10 }, (_, k) => [String(k), String(k)]);
  const SPECS = [
    { name: "label", label: "label y", kind: "select", options: [["all", "each once"], ...labels, ["none", "none"]] },
    { name: "half", label: "known half", kind: "select", options: ["none", ...Object.keys(HALVES)].map((name) => [name, name]) },
    { name: "method", label: "solver", kind: "select", options: network.methods.map((name) => [name, name]) },
    { name: "w", label: "guidance scale w", kind: "range", min: 0, max: 6, step: 0.25 },
    { name: "steps", label: "steps", kind: "range", min: 1, max: 50, step: 1 },
    { name: "seed", label: "seed", kind: "range", min: 0, max: 99, step: 1 },
    { name: "t", label: "time t", kind: "range", min: 0, max: 1, step: 0.01 },
  ];
  const root = document.getElementById("digits");
  const numbers = element("p", "play-numbers", "The network is being loaded.");
  numbers.setAttribute("aria-live", "polite");
  let session = null, states = null, drawn = null, playing = null;

  // u(x|y) of a batch, one time for all: Float32Array (B * PIXELS).
  async function velocity(x, t, y) {
    const feeds = {
      x: network.floats(x, [y.length, 1, SIDE, SIDE]),
      t: network.floats(new Float32Array(y.length).fill(t), [y.length]),
      y: network.integers(y, [y.length]),
    };
    return (await session.run(feeds)).prediction.data;
  }

  // All states of the way from noise (B * PIXELS) to digits; with a half, the image (PIXELS) is known there.
  function follow(noise, y, { w, steps, method, half = "none", image = null }) {
    const guided = network.guided(velocity, w, NULL), plain = (x, t) => guided(x, t, y);
    const known = (i) => HALVES[half](Math.floor((i % PIXELS) / SIDE), i % SIDE);
    const u = half === "none" ? plain : network.replaced(plain, (i) => image[i % PIXELS], known, noise);
    return network.follow(u, noise, { steps, method });
  }

  const canvases = Array.from({ length: COUNT }, () => canvasOf(SIDE));

  // Values from -1, paper, to 1, ink.
  function paintOn(canvas, values) {
    paintPixels(canvas, SIDE, (i) => Array(3).fill((255 * (1 - values(i))) / 2));
  }

  function paint() {
    if (!states) return;
    const now = state.t * (states.length - 1), low = Math.floor(now), high = Math.min(low + 1, states.length - 1);
    canvases.forEach((canvas, k) => {
      const at = (i) => k * PIXELS + i;
      paintOn(canvas, (i) => states[low][at(i)] + (now - low) * (states[high][at(i)] - states[low][at(i)]));
      const around = state.half === "none" ? "" : `, around the ${state.half} half that you drew`;
      canvas.setAttribute("aria-label", `a drawn digit, asked for: ${drawn[k] === NULL ? "any" : drawn[k]}${around}, at time ${state.t}`);
    });
  }

  const draw = network.oneByOne(async () => {
    const begin = performance.now();
    drawn = canvases.map((_, k) => (state.label === "all" ? k : state.label === "none" ? NULL : Number(state.label)));
    states = await follow(network.noise(state.seed, COUNT * PIXELS), drawn, { ...state, image: pad.values });
    const calls = state.steps * (state.method === "euler" ? 1 : 2), seconds = (performance.now() - begin) / 1000;
    numbers.textContent = `${COUNT} digits in ${seconds.toFixed(2)} s: ${calls} evaluations${state.w === 1 ? "" : ", each for the label and for none"}.`;
    paint();
  });

  function renew(changes = {}) {
    Object.assign(state, changes);
    for (const [name, value] of Object.entries(changes)) controls[name]?.write(value);
    pad.show(state.half);
    return draw();
  }

  function play() {
    cancelAnimationFrame(playing);
    const begin = performance.now();
    const frame = (time) => {
      state.t = Math.min(1, Math.max(0, time - begin) / 2500);
      controls.t.write(state.t);
      paint();
      if (state.t < 1) playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  }

  const pad = makePad(SIDE, paintOn, (half) => (i) => HALVES[half](Math.floor(i / SIDE), i % SIDE), () => renew());
  const panel = element("div", "play-controls");
  const controls = makeControls(panel, SPECS, state, (name, value) => {
    if (name !== "t") return renew({ [name]: value });
    state.t = value;
    paint();
  });
  const half = button("Half a digit", () => renew({ half: state.half === "none" ? "upper" : "none" }));
  const row = element("div", "play-row", button("Play", play), button("New noise", () => renew({ seed: (state.seed + 1) % 100 })), half);
  root.append(element("div", "play-digits", ...canvases), row, pad.element, numbers, panel);
  const ready = network.load(digitsModel).then(([made]) => {
    session = made;
    return renew();
  }, (error) => {
    numbers.textContent = `The network could not be loaded: ${error.message}`;
    throw error;
  });
  globalThis.digits = { state, renew, ready, follow, pad, states: () => states };
})();
