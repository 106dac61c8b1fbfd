// A Gaussian mixture in the plane whose velocity, score and density are exact, and the samplers that follow it: what
// flowlib/fields.py, solvers.py, samplers.py and sde.py compute, for two-dimensional points.
//
// tests/site/test_mixture_js.py holds every value to Python's within 1e-6. Time runs from noise at t = 0 to data at t = 1.
"use strict";

const HALF_PI = Math.PI / 2;
const COSINE_RATE = HALF_PI / 1.008; // of the offset 0.008

// Signal alpha and noise beta with their derivatives, as in flowlib/schedules.py.
const SCHEDULES = {
  linear: { alpha: (t) => t, beta: (t) => 1 - t, dalpha: () => 1, dbeta: () => -1 },
  trigonometric: {
    alpha: (t) => Math.sin(t * HALF_PI),
    beta: (t) => Math.sin((1 - t) * HALF_PI),
    dalpha: (t) => HALF_PI * Math.cos(t * HALF_PI),
    dbeta: (t) => -HALF_PI * Math.cos((1 - t) * HALF_PI),
  },
  "square-root": {
    alpha: (t) => Math.sqrt(t),
    beta: (t) => Math.sqrt(1 - t),
    dalpha: (t) => 0.5 / Math.sqrt(t),
    dbeta: (t) => -0.5 / Math.sqrt(1 - t),
  },
  vp: preserving(
    (t) => Math.exp(vpLog(t)),
    (t) => Math.sqrt(-Math.expm1(2 * vpLog(t))),
    (t) => (Math.exp(vpLog(t)) * (0.1 + (1 - t) * 19.9)) / 2,
  ),
  cosine: preserving(
    (t) => Math.sin(t * COSINE_RATE) / Math.cos(0.008 * COSINE_RATE),
    (t) => {
      const s = 1 - t, rate = COSINE_RATE;
      return Math.sqrt(Math.sin(s * rate) * Math.sin((s + 0.016) * rate)) / Math.cos(0.008 * rate);
    },
    (t) => (COSINE_RATE * Math.cos(t * COSINE_RATE)) / Math.cos(0.008 * COSINE_RATE),
  ),
};

function vpLog(t) {
  const s = 1 - t;
  return (-s * s * 19.9) / 4 - (s * 0.1) / 2;
}

// alpha^2 + beta^2 = 1, so that beta' follows from alpha'.
function preserving(alpha, beta, dalpha) {
  return { alpha, beta, dalpha, dbeta: (t) => (-alpha(t) * dalpha(t)) / beta(t) };
}

class Mixture {
  // means [[x, y], ...], weights and stds one a component, labels 0, 1, ... of the components.
  constructor({ means, weights, stds, labels, schedule = "linear" }) {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    this.means = means;
    this.weights = weights.map((weight) => weight / total);
    this.stds = stds;
    this.labels = labels;
    this.schedule = SCHEDULES[schedule];
  }

  // For each component log p_t(x, k|y), the variance, and x - alpha mean. y = null is the null guide.
  components(x, t, y) {
    const alpha = this.schedule.alpha(t), beta = this.schedule.beta(t);
    const kept = this.weights.map((weight, k) => (y === null || this.labels[k] === y ? weight : 0));
    const total = kept.reduce((sum, weight) => sum + weight, 0);
    const parts = this.means.map((mean, k) => {
      const variance = alpha * alpha * this.stds[k] ** 2 + beta * beta;
      const gap = [x[0] - alpha * mean[0], x[1] - alpha * mean[1]];
      const square = gap[0] ** 2 + gap[1] ** 2;
      const log = Math.log(kept[k] / total) - square / (2 * variance) - Math.log(2 * Math.PI * variance);
      return { log, variance, gap };
    });
    return { alpha, beta, parts };
  }

  // Whether D and eps can be asked for at t: points of data have no density at t = 1.
  determined(t) {
    return t < 1 || Math.min(...this.stds) > 0;
  }

  logProb(x, t, y = null) {
    const logs = this.components(x, t, y).parts.map((part) => part.log);
    const top = Math.max(...logs);
    return top + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - top), 0));
  }

  // D = E[z|x, y] and eps = E[noise|x, y].
  pair(x, t, y = null) {
    const { alpha, beta, parts } = this.components(x, t, y);
    const top = Math.max(...parts.map((part) => part.log));
    const shares = parts.map((part) => Math.exp(part.log - top));
    const total = shares.reduce((sum, share) => sum + share, 0);
    const data = [0, 0], eps = [0, 0];
    parts.forEach(({ variance, gap }, k) => {
      const share = shares[k] / total, pull = (alpha * this.stds[k] ** 2) / variance;
      for (const i of [0, 1]) {
        data[i] += share * (this.means[k][i] + pull * gap[i]);
        eps[i] += (share * beta * gap[i]) / variance;
      }
    });
    return [data, eps];
  }
}

// (1 - w) and w of the pairs without and with the label: classifier-free guidance, as in flowlib/guidance.py.
class Guided {
  constructor(field, scale) {
    this.field = field;
    this.scale = scale;
    this.schedule = field.schedule;
  }

  determined(t) {
    return this.field.determined(t);
  }

  pair(x, t, y = null) {
    if (y === null || this.scale === 1) return this.field.pair(x, t, y);
    const without = this.field.pair(x, t, null), guided = this.field.pair(x, t, y), w = this.scale;
    return [0, 1].map((j) => [0, 1].map((i) => without[j][i] + w * (guided[j][i] - without[j][i])));
  }
}

const combine = (a, p, b, q) => [a * p[0] + b * q[0], a * p[1] + b * q[1]];

function velocity(field, x, t, y) {
  const [data, eps] = field.pair(x, t, y);
  return combine(field.schedule.dalpha(t), data, field.schedule.dbeta(t), eps);
}

function score(field, x, t, y) {
  const eps = field.pair(x, t, y)[1], beta = field.schedule.beta(t);
  return [-eps[0] / beta, -eps[1] / beta];
}

const plus = (x, ...terms) => terms.reduce((sum, [c, v]) => [sum[0] + c * v[0], sum[1] + c * v[1]], x);

// One step of dx/dt = f(x, t) from t to t + h; rk4 is Kutta's 3/8 rule, as in flowlib/solvers.py.
const STEPS = {
  euler: (f, x, t, h) => plus(x, [h, f(x, t)]),
  midpoint: (f, x, t, h) => plus(x, [h, f(plus(x, [h / 2, f(x, t)]), t + h / 2)]),
  heun: (f, x, t, h) => {
    const slope = f(x, t);
    return plus(x, [h / 2, slope], [h / 2, f(plus(x, [h, slope]), t + h)]);
  },
  rk4: (f, x, t, h) => {
    const k1 = f(x, t);
    const k2 = f(plus(x, [h / 3, k1]), t + h / 3);
    const k3 = f(plus(x, [h, k2], [-h / 3, k1]), t + (2 * h) / 3);
    const k4 = f(plus(x, [h, k1], [-h, k2], [h, k3]), t + h);
    return plus(x, [h / 8, k1], [(3 * h) / 8, k2], [(3 * h) / 8, k3], [h / 8, k4]);
  },
};
const NEEDS_END = ["heun", "rk4"];
const EVALUATIONS = { euler: 1, midpoint: 2, heun: 2, rk4: 4 };

// Where the velocity is infinite: alpha_s D + beta_s eps needs neither derivative (DDIM).
function ddimStep(field, x, t, s, y) {
  const [data, eps] = field.pair(x, t, y);
  return combine(field.schedule.alpha(s), data, field.schedule.beta(s), eps);
}

// Standard noise as a path starts from it: VP keeps a trace of signal.
function start(field, noise) {
  const level = field.schedule.beta(0);
  return [level * noise[0], level * noise[1]];
}

// The states of one point at times 0, 1/steps, ... 1, along the ODE.
function followOde(field, noise, { y = null, steps, method }) {
  const { dalpha, dbeta } = field.schedule;
  const finite = (t) => isFinite(dalpha(t)) && isFinite(dbeta(t)) && field.determined(t);
  const f = (x, t) => velocity(field, x, t, y);
  const states = [start(field, noise)];
  for (let i = 0; i < steps; i++) {
    const t = i / steps, s = (i + 1) / steps, x = states[i];
    const known = finite(t) && (finite(s) || !NEEDS_END.includes(method));
    states.push(known ? STEPS[method](f, x, t, s - t) : ddimStep(field, x, t, s, y));
  }
  return states;
}

// The same along dX = [u + g^2/2 s] dt + g dW by Euler-Maruyama. `constant` is g; without it g^2 = 2 eta beta omega,
// whose drift has no division. `draw` gives two standard normal numbers.
function followSde(field, noise, { y = null, steps, constant = null, eta = 1, denoiseLast = true, draw }) {
  const { alpha, beta, dalpha, dbeta } = field.schedule;
  const states = [start(field, noise)];
  for (let i = 0; i < steps; i++) {
    const t = i / steps, s = (i + 1) / steps, h = s - t, x = states[i];
    if (denoiseLast && i === steps - 1) {
      states.push(field.pair(x, t, y)[0]);
    } else if (isFinite(dalpha(t)) && isFinite(dbeta(t))) {
      const [data, eps] = field.pair(x, t, y);
      const pull = constant === null ? eta * (dalpha(t) * beta(t) - alpha(t) * dbeta(t)) : constant ** 2 / (2 * beta(t));
      const size = Math.sqrt(2 * pull * beta(t) * h);
      states.push(plus(x, [h * dalpha(t), data], [h * (dbeta(t) - pull), eps], [size, draw()]));
    } else {
      states.push(ddimStep(field, x, t, s, y));
    }
  }
  return states;
}

// Numbers that are the same for the same seed: mulberry32, and Box and Muller's normal pairs.
function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  };
  return () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
}

// 2 E|a - b| - E|a - a'| - E|b - b'| of two sets of points: 0 only for equal laws, in the mean.
function energyDistance(a, b) {
  const mean = (p, q) => {
    let sum = 0;
    for (const one of p) for (const two of q) sum += Math.hypot(one[0] - two[0], one[1] - two[1]);
    return sum / (p.length * q.length);
  };
  return 2 * mean(a, b) - mean(a, a) - mean(b, b);
}

const api = {
  SCHEDULES, STEPS, EVALUATIONS, Mixture, Guided, velocity, score, followOde, followSde, normals, energyDistance,
};
if (typeof module !== "undefined") module.exports = api;
else globalThis.flow = api;
