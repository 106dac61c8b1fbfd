// What mixture.js computes for the cases on standard input, as JSON: for tests/site/test_mixture_js.py.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const flow = createRequire(import.meta.url)("../../docs/play/mixture.js");
const { mixture, points, times, noise, draws, guides } = JSON.parse(readFileSync(0, "utf8"));
const answer = {};
for (const [name, schedule] of Object.entries(flow.SCHEDULES)) {
  const field = new flow.Mixture({ ...mixture, schedule: name });
  const guided = new flow.Guided(field, 2.5);
  const each = (f) => times.map((t) => guides.map((y) => points.map((x) => f(x, t, y))));
  const sde = (options) => noise.map((start, i) => {
    let at = 0;
    return flow.followSde(field, start, { steps: 20, y: 1, draw: () => draws[at++][i], ...options }).at(-1);
  });
  answer[name] = {
    levels: times.map((t) => [schedule.alpha(t), schedule.beta(t), schedule.dalpha(t), schedule.dbeta(t)]),
    u: each((x, t, y) => flow.velocity(field, x, t, y)),
    s: each((x, t, y) => flow.score(field, x, t, y)),
    guided: each((x, t, y) => flow.velocity(guided, x, t, y)),
    log: each((x, t, y) => field.logProb(x, t, y)),
    ode: Object.fromEntries(
      Object.keys(flow.STEPS).map((method) => [
        method, noise.map((start) => flow.followOde(guided, start, { steps: 20, y: 1, method }).at(-1)),
      ]),
    ),
    sde: { default: sde({}), half: sde({ eta: 0.5 }), constant: sde({ constant: 0.7 }), loud: sde({ constant: 0.7, denoiseLast: false }) },
  };
}
answer.energy = flow.energyDistance(points, noise);
process.stdout.write(JSON.stringify(answer));
