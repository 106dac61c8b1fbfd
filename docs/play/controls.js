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

// A colour of the theme, light or dark as it is now.
const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Call when the reader changes between light and dark.
function onTheme(action) {
  new MutationObserver(action).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
