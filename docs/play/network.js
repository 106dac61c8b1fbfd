// Graphs that run in the page, by onnxruntime-web, and how a field is followed from noise, as sample_ode does.
"use strict";

const network = (() => {
  // Bytes that came as gzip in base64: pages from disk may not fetch files, but may run scripts.
  async function bytes(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  // Sessions of graphs, each given as such bytes.
  async function load(...graphs) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await bytes(ortWasm);
    const glue = new Blob([await bytes(ortGlue)], { type: "text/javascript" });
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    const sessions = [];
    for (const graph of graphs) {
      sessions.push(await ort.InferenceSession.create(new Uint8Array(await bytes(graph)), { executionProviders: ["wasm"] }));
    }
    return sessions;
  }

  const floats = (values, shape) => new ort.Tensor("float32", values, shape);
  const integers = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

  // Classifier-free guidance, (1 - w) f(x, t, none) + w f(x, t, y), from one call for 2 B samples.
  // f takes x (B * pixels), a time for all, and an array of B guides.
  const guided = (f, w, none) => async (x, t, y) => {
    if (w === 1) return f(x, t, y);
    const both = new Float32Array(2 * x.length);
    both.set(x);
    both.set(x, x.length);
    const found = await f(both, t, [...y, ...y.map(() => none)]);
    return x.map((_, i) => found[x.length + i] + w * (found[i] - found[x.length + i]));
  };

  // On the linear path, u = D - eps and D of v = t eps - (1 - t) D: x = t D + (1 - t) eps is solved with it.
  const velocityOfV = (x, t, v) => x.map((value, i) => ((2 * t - 1) * value - v[i]) / (t * t + (1 - t) * (1 - t)));
  const dataOfV = (x, t, v) => x.map((value, i) => (t * value - (1 - t) * v[i]) / (t * t + (1 - t) * (1 - t)));

  // Steps as in mixture.js, of asynchronous fields of many numbers.
  const plus = (x, ...terms) => x.map((value, i) => terms.reduce((sum, [c, v]) => sum + c * v[i], value));
  const STEPS = {
    euler: async (f, x, t, h) => plus(x, [h, await f(x, t)]),
    midpoint: async (f, x, t, h) => plus(x, [h, await f(plus(x, [h / 2, await f(x, t)]), t + h / 2)]),
    heun: async (f, x, t, h) => {
      const slope = await f(x, t);
      return plus(x, [h / 2, slope], [h / 2, await f(plus(x, [h, slope]), t + h)]);
    },
  };

  // All states of the way from noise along dx/dt = u(x, t). With `data`, the last step lands on D = data(x, t).
  async function follow(u, noise, { steps, method, data = null }) {
    const way = [noise];
    for (let i = 0; i < steps; i++) {
      const last = data !== null && i === steps - 1;
      way.push(await (last ? data(way[i], i / steps) : STEPS[method](u, way[i], i / steps, 1 / steps)));
    }
    return way;
  }

  // The velocity that is shown, in place of the known part of x, a sample of the path to it: ReplacedPixels of
  // flowlib/systems/inpainting.py on the linear path. known(i) is true where the value is image[i].
  const replaced = (u, image, known, noise) => async (x, t) => {
    const found = await u(x.map((value, i) => (known(i) ? t * image(i) + (1 - t) * noise[i] : value)), t);
    return found.map((value, i) => (known(i) ? image(i) - noise[i] : value));
  };

  function noise(seed, count) {
    const draw = flow.normals(seed);
    return Float32Array.from(Array.from({ length: count / 2 }, draw).flat());
  }

  // One drawing at a time; of what is asked for meanwhile only the last is drawn after it.
  function oneByOne(draw) {
    let busy = Promise.resolve(), newest = 0;
    return () => {
      const mine = ++newest;
      busy = busy.then(() => (mine === newest ? draw() : undefined));
      return busy;
    };
  }

  return { load, floats, integers, guided, velocityOfV, dataOfV, methods: Object.keys(STEPS), follow, replaced, noise, oneByOne };
})();
