// The page "Digits from a network": an ONNX graph of the velocity u(x, t, y), followed from noise as sample_ode does.
"use strict";

(() => {
  const SIDE = 8, PIXELS = SIDE * SIDE, COUNT = 10, NULL = 10; // images, drawn at once, and the label of "none"
  const state = { label: "all", w: 2, steps: 12, method: "heun", seed: 0, t: 1 };
  const labels = Array.from({ length: 10 }, (_, k) => [String(k), String(k)]);
  const SPECS = [
    { name: "label", label: "label y", kind: "select", options: [["all", "each once"], ...labels, ["none", "none"]] },
    { name: "method", label: "solver", kind: "select", options: Object.keys(solvers()).map((name) => [name, name]) },
    { name: "w", label: "guidance scale w", kind: "range", min: 0, max: 6, step: 0.25 },
    { name: "steps", label: "steps", kind: "range", min: 1, max: 50, step: 1 },
    { name: "seed", label: "seed", kind: "range", min: 0, max: 99, step: 1 },
    { name: "t", label: "time t", kind: "range", min: 0, max: 1, step: 0.01 },
  ];
  const root = document.getElementById("digits");
  const numbers = element("p", "play-numbers", "The network is being loaded.");
  numbers.setAttribute("aria-live", "polite");
  let session = null, states = null, drawn = null, playing = null, busy = null;

  // Bytes that came as gzip in base64: pages from disk may not fetch files, but may run scripts.
  async function bytes(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  async function load() {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await bytes(ortWasm);
    const glue = new Blob([await bytes(ortGlue)], { type: "text/javascript" });
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    session = await ort.InferenceSession.create(new Uint8Array(await bytes(digitsModel)), { executionProviders: ["wasm"] });
  }

  // u(x|y) of a batch, one time for all: Float32Array (B * PIXELS).
  async function network(x, t, y) {
    const batch = y.length;
    const feeds = {
      x: new ort.Tensor("float32", x, [batch, 1, SIDE, SIDE]),
      t: new ort.Tensor("float32", new Float32Array(batch).fill(t), [batch]),
      y: new ort.Tensor("int64", BigInt64Array.from(y.map(BigInt)), [batch]),
    };
    return (await session.run(feeds)).prediction.data;
  }

  // The same guided: (1 - w) u(x|none) + w u(x|y), from one call for 2 B samples.
  async function guided(x, t, y, w) {
    if (w === 1) return network(x, t, y);
    const both = new Float32Array(2 * x.length);
    both.set(x);
    both.set(x, x.length);
    const u = await network(both, t, [...y, ...y.map(() => NULL)]);
    return x.map((_, i) => u[x.length + i] + w * (u[i] - u[x.length + i]));
  }

  // Steps as in mixture.js, of asynchronous fields of many numbers.
  function solvers() {
    const plus = (x, ...terms) => x.map((value, i) => terms.reduce((sum, [c, v]) => sum + c * v[i], value));
    return {
      euler: async (f, x, t, h) => plus(x, [h, await f(x, t)]),
      midpoint: async (f, x, t, h) => plus(x, [h, await f(plus(x, [h / 2, await f(x, t)]), t + h / 2)]),
      heun: async (f, x, t, h) => {
        const slope = await f(x, t);
        return plus(x, [h / 2, slope], [h / 2, await f(plus(x, [h, slope]), t + h)]);
      },
    };
  }

  // All states of the way from noise (B * PIXELS) to digits.
  async function follow(noise, y, { w, steps, method }) {
    const f = (x, t) => guided(x, t, y, w), step = solvers()[method], way = [noise];
    for (let i = 0; i < steps; i++) way.push(await step(f, way[i], i / steps, 1 / steps));
    return way;
  }

  function noiseOf(seed) {
    const draw = flow.normals(seed);
    return Float32Array.from(Array.from({ length: (COUNT * PIXELS) / 2 }, draw).flat());
  }

  const canvases = Array.from({ length: COUNT }, () => {
    const canvas = element("canvas", "");
    Object.assign(canvas, { width: SIDE, height: SIDE });
    canvas.setAttribute("role", "img");
    return canvas;
  });

  function paint() {
    if (!states) return;
    const now = state.t * (states.length - 1), low = Math.floor(now), high = Math.min(low + 1, states.length - 1);
    canvases.forEach((canvas, k) => {
      const context = canvas.getContext("2d"), image = context.createImageData(SIDE, SIDE);
      for (let i = 0; i < PIXELS; i++) {
        const at = k * PIXELS + i, value = states[low][at] + (now - low) * (states[high][at] - states[low][at]);
        const grey = 255 * Math.min(1, Math.max(0, (1 - value) / 2)); // ink on paper
        image.data.set([grey, grey, grey, 255], 4 * i);
      }
      context.putImageData(image, 0, 0);
      canvas.setAttribute("aria-label", `a drawn digit, asked for: ${drawn[k] === NULL ? "any" : drawn[k]}, at time ${state.t}`);
    });
  }

  // One drawing at a time; what was changed meanwhile is drawn after it.
  function renew(changes = {}) {
    Object.assign(state, changes);
    for (const [name, value] of Object.entries(changes)) controls[name]?.write(value);
    const before = busy ?? Promise.resolve();
    const mine = (busy = before.then(async () => {
      if (busy !== mine) return;
      const begin = performance.now();
      drawn = canvases.map((_, k) => (state.label === "all" ? k : state.label === "none" ? NULL : Number(state.label)));
      states = await follow(noiseOf(state.seed), drawn, state);
      const calls = state.steps * (state.method === "euler" ? 1 : 2), seconds = (performance.now() - begin) / 1000;
      numbers.textContent = `${COUNT} digits in ${seconds.toFixed(2)} s: ${calls} evaluations${state.w === 1 ? "" : ", each for the label and for none"}.`;
      paint();
    }));
    return mine;
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

  const panel = element("div", "play-controls");
  const controls = makeControls(panel, SPECS, state, (name, value) => {
    if (name !== "t") return renew({ [name]: value });
    state.t = value;
    paint();
  });
  const row = element("div", "play-row", button("Play", play), button("New noise", () => renew({ seed: (state.seed + 1) % 100 })));
  root.append(element("div", "play-digits", ...canvases), row, numbers, panel);
  const ready = load().then(() => renew(), (error) => {
    numbers.textContent = `The network could not be loaded: ${error.message}`;
    throw error;
  });
  globalThis.digits = { state, renew, ready, follow, states: () => states };
})();
