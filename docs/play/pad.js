// A small picture to draw on, by a pointer or by the keyboard, of which one half is known.
"use strict";

// paintOn(canvas, values) shows it; within(half) says of a pixel whether it is known; changed() is called after a stroke.
function makePad(side, paintOn, within, changed) {
  const values = new Float32Array(side * side).fill(-1);
  for (const i of [2, 3, 4, 9, 13, 21, 27, 28]) values[i] = 1; // the upper half of a 2, a 3 or a 9
  for (const i of [1, 5, 10, 12, 20, 26, 29]) values[i] = -0.2;
  const canvas = canvasOf(side), pen = element("button", "play-pixel");
  const text = element("p", "", "");
  const frame = element("div", "play-pad", canvas, pen);
  const whole = element("div", "play-panels", frame, element("div", "play-pad-text", text, element("div", "play-row",
    button("Clear", () => {
      values.fill(-1);
      show(half);
      changed();
    }))));
  let half = "none", at = [3, 1], inking = 1;

  function show(name) {
    half = name;
    whole.hidden = half === "none";
    if (whole.hidden) return;
    const known = within(half);
    paintOn(canvas, (i) => (known(i) ? values[i] : 0.15));
    canvas.setAttribute("aria-label", `the ${half} half of a digit, which you draw; the rest is grey`);
    pen.setAttribute("aria-label", `pen at row ${at[1] + 1}, column ${at[0] + 1}: arrow keys move it, Enter draws or erases`);
    text.textContent = `Draw in the ${half} half: with a pointer, or with arrow keys and Enter. What is ink becomes paper by a second touch. The ten pictures above are finished around it.`;
    Object.assign(pen.style, { left: `${(100 * at[0]) / side}%`, top: `${(100 * at[1]) / side}%`, width: `${100 / side}%`, height: `${100 / side}%` });
  }

  // Ink, and a little of it beside, as in the data; paper erases one pixel.
  function touch() {
    const i = at[1] * side + at[0];
    if (!within(half)(i)) return;
    values[i] = inking;
    for (const step of inking === 1 ? [-1, 1] : []) {
      if (at[0] + step >= 0 && at[0] + step < side) values[i + step] = Math.max(values[i + step], -0.4);
    }
  }

  const inside = (value) => Math.max(0, Math.min(side - 1, value));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    at = [event.clientX - box.left, event.clientY - box.top].map((value) => inside(Math.floor((value / box.width) * side)));
  };
  const choose = () => (inking = values[at[1] * side + at[0]] > 0 ? -1 : 1);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    place(event);
    choose();
    touch();
    show(half);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    place(event);
    touch();
    show(half);
  });
  canvas.addEventListener("pointerup", changed);
  pen.type = "button";
  pen.addEventListener("click", () => {
    choose();
    touch();
    show(half);
    changed();
  });
  onArrows(pen, (right, down) => {
    at = [inside(at[0] + right), inside(at[1] + down)];
    show(half);
  });
  return { element: whole, values, show };
}
