// Labelled controls from a list, for pages to play with: each is a native element, so that a keyboard reaches it.
"use strict";

// specs: [{name, label, kind: "range" | "select" | "check", min, max, step, options}]; calls changed(name, value).
function makeControls(parent, specs, values, changed) {
  const inputs = {};
  for (const spec of specs) {
    const label = document.createElement("label");
    const title = document.createElement("span");
    title.textContent = spec.label;
    const input = document.createElement(spec.kind === "select" ? "select" : "input");
    const shown = document.createElement("output");
    input.id = `control-${spec.name}`;
    if (spec.kind === "select") {
      for (const [value, text] of spec.options) input.add(new Option(text, value));
    } else {
      input.type = spec.kind === "check" ? "checkbox" : "range";
      if (spec.kind === "range") Object.assign(input, { min: spec.min, max: spec.max, step: spec.step });
    }
    const read = () => {
      if (spec.kind === "check") return input.checked;
      return spec.kind === "range" ? Number(input.value) : input.value;
    };
    const write = (value) => {
      if (spec.kind === "check") input.checked = value;
      else input.value = value;
      shown.textContent = spec.kind === "range" ? String(Number(value.toFixed?.(3) ?? value)) : "";
    };
    input.addEventListener("input", () => {
      write(read());
      changed(spec.name, read());
    });
    write(values[spec.name]);
    label.append(title, input, shown);
    parent.append(label);
    inputs[spec.name] = { input, title, write };
  }
  return inputs;
}

// An element with a class and children, and a button that does something.
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function button(text, action) {
  const made = element("button", "play-button", text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// A canvas of side x side pixels that is a picture to readers who cannot see it; its aria-label says of what.
function canvasOf(side) {
  const canvas = element("canvas", "");
  Object.assign(canvas, { width: side, height: side });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "nothing yet");
  return canvas;
}

// colour(i) is [red, green, blue] of pixel i, row by row, each cut to 0 ... 255.
function paintPixels(canvas, side, colour) {
  const context = canvas.getContext("2d"), image = context.createImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set([...colour(i), 255], 4 * i);
  context.putImageData(image, 0, 0);
}

// Call with a step to the right and downwards, when an arrow key is pressed on an element.
function onArrows(target, move) {
  target.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(...step);
  });
}

// A colour of the theme, light or dark as it is now.
const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Call when the reader changes between light and dark.
function onTheme(action) {
  new MutationObserver(action).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
