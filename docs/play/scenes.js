// The page "Scenes": a caption becomes pictures, by scenes-text of the zoo, and SAM says what a click on one means.
"use strict";

(() => {
  const SIDE = 16, PIXELS = SIDE * SIDE, SIZE = 3 * PIXELS, COUNT = 4; // of an image, and pictures at once
  const EXAMPLES = [
    "a large red seven at the upper left above a small blue two, on grey", "a small pink five at the centre, on black",
    "a green three left of a yellow eight", "a red four", "a large orange six at the right, on white",
  ];
  const state = { caption: EXAMPLES[0], w: 3, steps: 12, seed: 0, chosen: 0, point: [4, 4], mask: 0 };
  const SPECS = [
    { name: "example", label: "an example", kind: "select", options: EXAMPLES.map((text) => [text, text]) },
    { name: "w", label: "guidance scale w", kind: "range", min: 0, max: 8, step: 0.25 },
    { name: "steps", label: "steps", kind: "range", min: 1, max: 40, step: 1 },
    { name: "seed", label: "seed", kind: "range", min: 0, max: 99, step: 1 },
  ];
  const root = document.getElementById("scenes"), tokenizer = new Tokenizer(scenesTokenizer);
  const numbers = element("p", "play-numbers", "The networks are being loaded.");
  numbers.setAttribute("aria-live", "polite");
  let painter = null, encoder = null, decoder = null, images = null, drawn = "", embeddings = [], answer = null;

  // v of a batch under rows of tokens, one time for all.
  async function predict(x, t, rows) {
    const feeds = {
      x: network.floats(x, [rows.length, 3, SIDE, SIDE]),
      t: network.floats(new Float32Array(rows.length).fill(t), [rows.length]),
      y: network.integers(rows.flat(), [rows.length, tokenizer.length]),
    };
    return (await painter.run(feeds)).prediction.data;
  }

  // Pictures (B * SIZE) of a caption, from as much noise, by Heun's method, whose last step lands on D.
  async function follow(noise, caption, { w, steps }) {
    const rows = Array(noise.length / SIZE).fill(tokenizer.row(caption)), none = tokenizer.row("");
    const guided = network.guided(predict, w, none);
    const u = async (x, t) => network.velocityOfV(x, t, await guided(x, t, rows));
    const data = async (x, t) => network.dataOfV(x, t, await guided(x, t, rows));
    const way = await network.follow(u, noise, { steps, method: "heun", data });
    return way.at(-1).map((value) => Math.min(1, Math.max(-1, value)));
  }

  const embed = async (image) => (await encoder.run({ x: network.floats(image, [1, 3, SIDE, SIDE]) })).embedding;

  // What one click at [x, y] may mean: three logits of PIXELS and their predicted IoU, the best first.
  async function ask(embedding, point) {
    const feeds = { embedding, points: network.floats(Float32Array.from(point), [1, 1, 2]), labels: network.integers([1], [1, 1]) };
    const { logits, iou } = await decoder.run(feeds);
    const masks = [1, 2, 3].map((k) => ({ logits: logits.data.slice(k * PIXELS, (k + 1) * PIXELS), iou: iou.data[k] }));
    return masks.sort((a, b) => b.iou - a.iou);
  }

  const image = (k) => images.slice(k * SIZE, (k + 1) * SIZE);
  const colour = (values, i) => [0, 1, 2].map((c) => 127.5 * (1 + values[c * PIXELS + i]));

  // What a mask covers, in words.
  function covers({ logits }) {
    const inside = [...logits.keys()].filter((i) => logits[i] > 0);
    if (!inside.length) return "no pixel";
    const range = (of) => `${Math.min(...inside.map(of)) + 1} to ${Math.max(...inside.map(of)) + 1}`;
    return `${inside.length} of ${PIXELS} pixels, rows ${range((i) => Math.floor(i / SIDE))}, columns ${range((i) => i % SIDE)}`;
  }

  const pictures = Array.from({ length: COUNT }, (_, k) => {
    const made = element("button", "", canvasOf(SIDE));
    made.type = "button";
    made.addEventListener("click", () => choose(k));
    return made;
  });
  const large = canvasOf(SIDE), point = element("button", "play-pixel"), choices = element("div", "play-row");
  const masks = Array.from({ length: 3 }, (_, k) => button("", () => {
    state.mask = k;
    paint();
  }));
  point.type = "button";
  choices.append(...masks);

  function paint() {
    if (!images) return;
    pictures.forEach((picture, k) => {
      paintPixels(picture.firstChild, SIDE, (i) => colour(image(k), i));
      picture.firstChild.setAttribute("aria-label", `picture ${k + 1} of “${drawn}”`);
      picture.setAttribute("aria-pressed", String(k === state.chosen));
    });
    const now = image(state.chosen), shown = answer?.[state.mask];
    paintPixels(large, SIDE, (i) => colour(now, i).map((value) => (shown && shown.logits[i] <= 0 ? 0.2 * value : value)));
    const said = shown ? `; mask ${state.mask + 1} of 3 covers ${covers(shown)}` : "";
    large.setAttribute("aria-label", `picture ${state.chosen + 1} of “${drawn}”, enlarged${said}`);
    const [x, y] = state.point;
    Object.assign(point.style, { left: `${(100 * x) / SIDE}%`, top: `${(100 * y) / SIDE}%`, width: `${100 / SIDE}%`, height: `${100 / SIDE}%` });
    point.setAttribute("aria-label", `point at row ${y + 1}, column ${x + 1}: arrow keys move it, Enter asks what is there`);
    masks.forEach((one, k) => {
      one.textContent = answer ? `mask ${k + 1}: IoU ${answer[k].iou.toFixed(2)}` : `mask ${k + 1}`;
      one.disabled = !answer;
      one.setAttribute("aria-pressed", String(Boolean(answer) && k === state.mask));
    });
  }

  function choose(k) {
    Object.assign(state, { chosen: k });
    answer = null;
    paint();
  }

  const click = network.oneByOne(async () => {
    const k = state.chosen, of = images;
    const found = await ask((embeddings[k] ??= await embed(image(k))), state.point);
    if (of !== images || k !== state.chosen) return;
    answer = found;
    state.mask = 0;
    numbers.textContent = `Three masks for one click; the best, by the network's own guess, covers ${covers(answer[0])}.`;
    paint();
  });

  const draw = network.oneByOne(async () => {
    const begin = performance.now(), caption = state.caption.trim().toLowerCase();
    try {
      if (!caption) throw new Error("The caption is empty: say what to paint, such as “a red seven”.");
      tokenizer.row(caption);
    } catch (error) {
      numbers.textContent = error.message;
      return;
    }
    const found = await follow(network.noise(state.seed, COUNT * SIZE), caption, state);
    Object.assign(state, { chosen: 0, mask: 0 });
    [images, drawn, embeddings, answer] = [found, caption, [], null];
    const seconds = (performance.now() - begin) / 1000;
    numbers.textContent = `${COUNT} pictures in ${seconds.toFixed(2)} s. Click on the large one, and SAM says what is there.`;
    paint();
  });

  function renew(changes = {}) {
    Object.assign(state, changes);
    for (const [name, value] of Object.entries(changes)) controls[name]?.write(value);
    if ("caption" in changes) field.value = state.caption;
    return draw();
  }

  large.addEventListener("pointerdown", (event) => {
    const box = large.getBoundingClientRect();
    const at = [event.clientX - box.left, event.clientY - box.top].map((value) => Math.floor((value / box.width) * SIDE));
    state.point = at.map((value) => Math.max(0, Math.min(SIDE - 1, value)));
    paint();
    if (images) click();
  });
  point.addEventListener("click", () => images && click());
  onArrows(point, (right, down) => {
    state.point = [state.point[0] + right, state.point[1] + down].map((value) => Math.max(0, Math.min(SIDE - 1, value)));
    paint();
  });

  const field = element("input", ""), title = element("span", "", "caption"), form = element("form", "play-caption");
  Object.assign(field, { id: "control-caption", type: "text", value: state.caption, autocomplete: "off" });
  const submit = element("button", "play-button", "Draw");
  form.append(element("label", "", title, field), submit);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    renew({ caption: field.value });
  });
  const panel = element("div", "play-controls");
  const controls = makeControls(panel, SPECS, { ...state, example: EXAMPLES[0] }, (name, value) => {
    renew(name === "example" ? { caption: value } : { [name]: value, caption: field.value });
  });
  const frame = element("div", "play-large", large, point);
  root.append(form, panel, element("div", "play-gallery", ...pictures), numbers, frame, choices);
  paint();
  const ready = network.load(scenesPainter, samImage, samMasks).then((made) => {
    [painter, encoder, decoder] = made;
    return renew();
  }, (error) => {
    numbers.textContent = `The networks could not be loaded: ${error.message}`;
    throw error;
  });
  globalThis.scenes = { state, renew, ready, follow, embed, ask, images: () => images, answer: () => answer };
})();
