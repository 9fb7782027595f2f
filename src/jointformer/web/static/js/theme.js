// Light, dark, or as the system says.

import { icon } from "./dom.js";

const looks = ["auto", "light", "dark"];
const icons = { auto: "auto", light: "sun", dark: "moon" };
const names = { auto: "Look: as the system", light: "Look: light", dark: "Look: dark" };

function stored() {
  try {
    const value = localStorage.getItem("look");
    return looks.includes(value) ? value : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

function apply(look) {
  document.documentElement.dataset.look = look;
  try {
    localStorage.setItem("look", look);
  } catch {
    // only for this time, then
  }
  for (const button of document.querySelectorAll(".look-button")) show(button, look);
  document.dispatchEvent(new Event("look"));
}

function show(button, look) {
  button.replaceChildren(icon(icons[look]));
  button.title = names[look];
  button.setAttribute("aria-label", names[look]);
}

export function startLook() {
  apply(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("look")));
}

export function lookButton() {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon-button look-button";
  button.addEventListener("click", () => apply(looks[(looks.indexOf(stored()) + 1) % looks.length]));
  show(button, stored());
  return button;
}

/** Returns the value of a CSS colour variable in the present look, for canvases. */
export function colour(name) {
  const probe = document.getElementById("colour-probe") ?? document.body.appendChild(Object.assign(document.createElement("i"), { id: "colour-probe", hidden: true }));
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
