// The page "A flow in the plane": particles, the density beside them, and controls. The mathematics is in mixture.js.
"use strict";

(() => {
  const COUNT = 300, EXACT = 100, SIZE = 420, REACH = 3.2; // points, those compared, pixels, and the plane's half side
  const COLOURS = ["#c4441c", "#2c66c9", "#3c9cbd", "#a06cd5"];
  const state = {
    schedule: "linear", method: "heun", sampler: "ode", strength: 1, last: true, steps: 20, label: "none", w: 1,
    std: 0.25, t: 1, seed: 0, means: [[-1.4, 1], [1.4, 1.1], [0.2, -1.5]],
  };
  const CLAIMS = {
    "01 steps": { method: "euler", sampler: "ode", steps: 5, label: "none", w: 1, std: 0.25, schedule: "linear" },
    "02 schedules": { method: "heun", sampler: "ode", steps: 40, label: "none", w: 1, std: 0.25, schedule: "vp" },
    "03 straight": { method: "euler", sampler: "ode", steps: 1, label: "0", w: 1, std: 0, schedule: "linear" },
    "04 constant g": { sampler: "constant", strength: 1, steps: 100, last: false, label: "none", w: 1, std: 0, schedule: "linear" },
    "05 guidance": { method: "heun", sampler: "ode", steps: 60, label: "0", w: 4, std: 0.5, schedule: "linear" },
  };
  const SPECS = [
    { name: "schedule", label: "schedule", kind: "select", options: Object.keys(flow.SCHEDULES).map((name) => [name, name]) },
    { name: "sampler", label: "sampler", kind: "select", options: [["ode", "ODE, no noise"], ["sde", "SDE, g² = 2ηβω"], ["constant", "SDE, constant g"]] },
    { name: "method", label: "solver of the ODE", kind: "select", options: Object.keys(flow.STEPS).map((name) => [name, name]) },
    { name: "steps", label: "steps", kind: "range", min: 1, max: 200, step: 1 },
    { name: "strength", label: "noise strength, η or g", kind: "range", min: 0, max: 3, step: 0.1 },
    { name: "last", label: "last step of the SDE lands on D", kind: "check" },
    { name: "label", label: "label y", kind: "select", options: [["none", "none"], ["0", "0, red"], ["1", "1, blue"], ["2", "2, light blue"]] },
    { name: "w", label: "guidance scale w", kind: "range", min: 0, max: 8, step: 0.25 },
    { name: "std", label: "width of the Gaussians", kind: "range", min: 0, max: 0.8, step: 0.05 },
    { name: "t", label: "time t", kind: "range", min: 0, max: 1, step: 0.01 },
  ];
  const root = document.getElementById("plane");
  const canvases = ["points on their way", "density of the law at this time"].map((text) => {
    const canvas = element("canvas", "");
    Object.assign(canvas, { width: SIZE, height: SIZE });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", text);
    return canvas;
  });
  const left = element("div", "play-panel", canvases[0]), right = element("div", "play-panel", canvases[1]);
  const numbers = element("p", "play-numbers");
  numbers.setAttribute("aria-live", "polite");
  let result = null, playing = null;

  const field = () => new flow.Mixture({
    means: state.means, weights: state.means.map(() => 1), stds: state.means.map(() => state.std),
    labels: state.means.map((_, k) => k), schedule: state.schedule,
  });
  const guide = () => (state.label === "none" ? null : Number(state.label));
  const guided = () => (state.w === 1 ? field() : new flow.Guided(field(), state.w));

  // Draws from the law at t = 1: by a component, or for a tempered law by its values on a grid.
  function target(count) {
    const y = guide(), draw = flow.normals(state.seed + 1000);
    if (y === null || state.w === 1 || state.std < 0.04) {
      return Array.from({ length: count }, (_, i) => {
        const mean = state.means[y === null ? i % state.means.length : y], noise = draw();
        return [mean[0] + state.std * noise[0], mean[1] + state.std * noise[1]];
      });
    }
    const { values, at, cell } = grid(1, 96), total = values.reduce((sum, value) => sum + value, 0);
    let k = 0, sum = values[0];
    return Array.from({ length: count }, (_, i) => {
      while (sum < (total * (i + 0.5)) / count) sum += values[++k];
      const [x, z] = at(k), noise = draw();
      return [x + (cell * noise[0]) / 3, z + (cell * noise[1]) / 3];
    });
  }

  // exp of the log density, up to a constant, on a square grid.
  function grid(t, side) {
    const plain = field(), y = guide(), cell = (2 * REACH) / side, time = state.std < 0.04 ? Math.min(t, 0.97) : t;
    const at = (k) => [-REACH + cell * ((k % side) + 0.5), REACH - cell * (Math.floor(k / side) + 0.5)];
    const logs = Array.from({ length: side * side }, (_, k) => {
      const x = at(k), mine = plain.logProb(x, time, y);
      return y === null || state.w === 1 ? mine : (1 - state.w) * plain.logProb(x, time, null) + state.w * mine;
    });
    const top = logs.reduce((most, log) => Math.max(most, log), -Infinity);
    return { values: logs.map((log) => Math.exp(log - top)), at, cell };
  }

  function compute() {
    const draw = flow.normals(state.seed), noise = Array.from({ length: COUNT }, draw), one = guided(), y = guide();
    const options = { y, steps: state.steps, method: state.method, draw, denoiseLast: state.last, eta: state.strength };
    if (state.sampler === "constant") options.constant = state.strength;
    const follow = state.sampler === "ode" ? flow.followOde : flow.followSde;
    const paths = noise.map((start) => follow(one, start, options)), ends = paths.map((path) => path.at(-1));
    const apart = state.sampler !== "ode" ? null : noise.slice(0, EXACT).reduce((sum, start, i) => {
      const exact = flow.followOde(one, start, { y, steps: 200, method: "rk4" }).at(-1);
      return sum + Math.hypot(exact[0] - ends[i][0], exact[1] - ends[i][1]) / EXACT;
    }, 0);
    const wanted = target(COUNT);
    const spread = wanted.reduce((sum, a) => sum + wanted.reduce((inner, b) => inner + Math.hypot(a[0] - b[0], a[1] - b[1]), 0), 0);
    const calls = state.steps * (state.sampler === "ode" ? flow.EVALUATIONS[state.method] : 1);
    const floor = (spread / COUNT ** 2) * (2 / COUNT);
    result = { paths, ends, apart, calls, distance: flow.energyDistance(ends, wanted), floor };
  }

  const show = (value) => (value === null ? "none: there is noise on the way" : value < 0.001 || value >= 1e4 ? value.toExponential(1) : value.toPrecision(3));

  function drawAll() {
    const ink = themeColour("--pst-color-text-base") || "#222", [points, density] = canvases.map((one) => one.getContext("2d"));
    const pixel = ([x, z]) => [((x + REACH) / (2 * REACH)) * SIZE, ((REACH - z) / (2 * REACH)) * SIZE];
    points.clearRect(0, 0, SIZE, SIZE);
    const now = state.t * state.steps;
    result.paths.forEach((path, i) => {
      const states = path.slice(0, Math.floor(now) + 1);
      if (now > Math.floor(now)) {
        const a = path[Math.floor(now)], b = path[Math.floor(now) + 1], share = now - Math.floor(now);
        states.push([a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])]);
      }
      points.strokeStyle = points.fillStyle = ink;
      if (i < 60) {
        points.globalAlpha = 0.25;
        points.beginPath();
        states.forEach((x, k) => points[k ? "lineTo" : "moveTo"](...pixel(x)));
        points.stroke();
      }
      points.globalAlpha = 0.85;
      const [x, z] = pixel(states.at(-1));
      points.fillRect(x - 1.5, z - 1.5, 3, 3);
    });
    const side = 70, { values } = grid(state.t, side), scale = SIZE / side;
    density.clearRect(0, 0, SIZE, SIZE);
    density.fillStyle = "#2c66c9";
    values.forEach((value, k) => {
      density.globalAlpha = Math.sqrt(value);
      density.fillRect((k % side) * scale, Math.floor(k / side) * scale, scale + 0.5, scale + 0.5);
    });
    handles.forEach((handle, k) => {
      const [x, z] = pixel(state.means[k]);
      Object.assign(handle.style, { left: `${(100 * x) / SIZE}%`, top: `${(100 * z) / SIZE}%` });
    });
    numbers.textContent =
      `Evaluations a sample: ${result.calls}. Mean distance to the exact flow: ${show(result.apart)}. ` +
      `Energy distance to the law: ${show(result.distance)} (exact draws: ${show(result.floor)}).`;
  }

  let waiting = false;
  function renew(changes = {}, again = true) {
    Object.assign(state, changes);
    for (const [name, value] of Object.entries(changes)) controls[name]?.write(value);
    if (waiting && again) return;
    waiting = again;
    requestAnimationFrame(() => {
      if (again) compute();
      waiting = waiting && !again;
      drawAll();
    });
  }

  // The Gaussians' means as buttons: dragged by a pointer, pushed by the arrow keys.
  const handles = state.means.map((_, k) => {
    const handle = element("button", "play-handle", String(k));
    handle.type = "button";
    handle.style.background = COLOURS[k];
    handle.setAttribute("aria-label", `Gaussian ${k}: move it with the arrow keys`);
    const move = (mean) => {
      const inside = (value) => Math.max(-REACH + 0.1, Math.min(REACH - 0.1, value));
      renew({ means: state.means.map((old, j) => (j === k ? mean.map(inside) : old)) });
    };
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = canvases[0].getBoundingClientRect();
      move([((event.clientX - box.left) / box.width) * 2 * REACH - REACH, REACH - ((event.clientY - box.top) / box.height) * 2 * REACH]);
    });
    handle.addEventListener("keydown", (event) => {
      const push = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
      if (!push) return;
      event.preventDefault();
      move([state.means[k][0] + push[0], state.means[k][1] + push[1]]);
    });
    left.append(handle);
    return handle;
  });

  function play() {
    cancelAnimationFrame(playing);
    const begin = performance.now();
    const frame = (time) => {
      renew({ t: Math.min(1, Math.max(0, time - begin) / 2500) }, false);
      if (state.t < 1) playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  }

  const panel = element("div", "play-controls"), claims = element("div", "play-row");
  for (const [name, changes] of Object.entries(CLAIMS)) claims.append(button(name, () => renew({ ...changes, t: 1 })));
  const controls = makeControls(panel, SPECS, state, (name, value) => renew({ [name]: value }, name !== "t"));
  const row = element("div", "play-row", button("Play", play), button("New noise", () => renew({ seed: state.seed + 1 })));
  root.append(claims, element("div", "play-panels", left, right), row, numbers, panel);
  onTheme(drawAll);
  compute();
  drawAll();
  globalThis.plane = { state, renew, result: () => result };
})();
