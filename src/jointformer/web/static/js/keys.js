// Keyboard shortcuts, and the overlay that shows them.

import { h, openDialog } from "./dom.js";
import { toolRows } from "./tools.js";

const move = (count) => (editor) => editor.step(count);

/** [keys, what they do, the work]. Keys as in KeyboardEvent.key, single letters small; "ctrl+" stands for ⌘, too. */
const groups = [
  ["Drawing", [
    ...toolRows.map((row) => [[row.key.toLowerCase()], row.title, (editor) => editor.setTool(row.name)]),
    [["["], "Smaller brush", (editor) => editor.setBrush(Math.min(editor.brush - 1, editor.brush * 0.85))],
    [["]"], "Larger brush", (editor) => editor.setBrush(Math.max(editor.brush + 1, editor.brush * 1.18))],
    [["a"], "Add an object", (editor) => editor.addObject()],
    [["Delete"], "Clear your mask of the object in this frame", (editor) => editor.clearMasks(editor.selected)],
    [["ctrl+z"], "Undo", (editor) => editor.undo()],
    [["ctrl+shift+z", "ctrl+y"], "Redo", (editor) => editor.redo()],
  ]],
  ["Moving in time", [
    [[" "], "Play or pause", (editor) => editor.togglePlay()],
    [["ArrowLeft"], "One frame back", move(-1)],
    [["ArrowRight"], "One frame on", move(1)],
    [["shift+ArrowLeft"], "Ten frames back", move(-10)],
    [["shift+ArrowRight"], "Ten frames on", move(10)],
    [["Home"], "First frame", (editor) => editor.step(-editor.frame)],
    [["End"], "Last frame", (editor) => editor.step(editor.state.frames)],
    [[","], "Annotated frame before", (editor) => editor.goToMark(-1)],
    [["."], "Annotated frame after", (editor) => editor.goToMark(1)],
    [["n"], "Frame to fix next", (editor) => editor.goToWorst()],
  ]],
  ["Tracking", [
    [["t"], "Track, or stop", (editor) => (editor.tracking ? editor.stop() : editor.track())],
    [["i"], "Range begins here", (editor) => editor.setRange(editor.frame, Math.max(editor.frame, editor.range.end))],
    [["o"], "Range ends here", (editor) => editor.setRange(Math.min(editor.frame, editor.range.start), editor.frame)],
    [["r"], "Range: the whole video", (editor) => editor.setRange(0, editor.state.frames - 1)],
  ]],
  ["Looking", [
    [["v"], "Show or hide all masks", (editor) => editor.toggleMasks()],
    [["+", "="], "Zoom in", (editor) => editor.stage.zoom(1.25)],
    [["-"], "Zoom out", (editor) => editor.stage.zoom(0.8)],
    [["0"], "Fit the picture", (editor) => editor.stage.fit()],
    [["?"], "This help", () => showHelp()],
  ]],
];

const fixed = [
  ["1 … 9", "Choose an object"],
  ["Enter", "Close the polygon, keep the scribbles"],
  ["Esc", "Give up what is being drawn or typed"],
  ["Right button, Alt", "Erase with the brush; background with scribbles"],
  ["Eraser of a pen", "As the right button"],
  ["Middle button", "Move the picture"],
  ["Wheel, two fingers", "Zoom, move"],
];

const signs = { ArrowLeft: "←", ArrowRight: "→", " ": "Space", ctrl: /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl", shift: "Shift" };
const works = new Map(groups.flatMap(([, rows]) => rows).flatMap(([keys, , work]) => keys.map((key) => [key, work])));

/** Signs that keyboards of other scripts have letters in the place of. */
const places = { BracketLeft: "[", BracketRight: "]", Comma: ",", Period: "." };

/** A key's character; of Cyrillic, Greek, Hebrew, Arabic and other scripts what Latin keyboards have in its place. */
function characterOf({ key, code }) {
  if (key < "\x80" || !/^(?!\p{Script=Latin})[\p{L}\p{M}\p{Nd}]/u.test(key)) return key;
  return code.match(/^(?:Key|Digit)(.)$/)?.[1] ?? places[code] ?? key;
}

/** Whether a bracket was made with Option, as on German and French keyboards of Macs, or AltGr: it is no Alt key then. */
const isMade = (event) => event.altKey && (event.key === "[" || event.key === "]");

function nameOf(event) {
  const character = characterOf(event);
  const letter = /^[a-zA-Z]$/.test(character);
  const key = letter ? character.toLowerCase() : character;
  const ctrl = (event.ctrlKey || event.metaKey) && !event.altKey ? "ctrl+" : "";
  const shift = event.shiftKey && (letter || key.length > 1) ? "shift+" : "";
  return ctrl + shift + key;
}

/** Keys that take back what they did before; one that is held down does it once. */
const toggles = new Set(["t", " ", "v"]);

export function listenToKeys(editor) {
  const types = ["text", "number", "search", "range"];
  const { signal } = editor.control;
  let before = ""; // what the field that has the focus holds: Esc brings it back
  const remember = (event) => { before = event.target.value; };
  // Space plays, also right after a click on a button; who has moved to a button by keyboard presses it.
  let clicked = null;
  let kept = false; // whether the Space that is held down has done its work
  document.addEventListener("click", (event) => {
    if (event.detail > 0) clicked = event.target.closest("button, summary, a, input");
  }, { signal, capture: true });
  document.addEventListener("focusout", () => { clicked = null; }, { signal });
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && kept) event.preventDefault(); // where browsers press a button
    kept = false;
  }, { signal, capture: true });
  document.addEventListener("focusin", remember, { signal });
  document.addEventListener("change", remember, { signal });
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const writes = target.matches("textarea, select") || (target.matches("input") && types.includes(target.type));
    if (document.querySelector("dialog[open]") || (event.altKey && !isMade(event))) return;
    const steers = event.key.startsWith("Arrow") && target !== clicked; // a slider, by keyboard
    if (writes && (target.type !== "range" || steers)) {
      if (event.key === "Escape") target.value = before;
      if (event.key === "Escape" || (event.key === "Enter" && target.matches("input"))) target.blur();
      return;
    }
    if (editor.stage.drawing !== undefined) {
      // Another frame, object or tool would get what this stroke belongs to.
      if (event.key === "Escape") editor.stage.drop();
      return;
    }
    const name = nameOf(event);
    // Buttons are pressed with the space bar and Enter.
    const pressed = target.matches("button, summary, a, input[type=checkbox], input[type=radio], input[type=color]");
    if (pressed && ((event.key === " " && target !== clicked) || event.key === "Enter")) return;
    if (editor.tool.key?.(event.key)) {
      event.preventDefault();
      return;
    }
    if (/^[1-9]$/.test(name)) {
      const object = editor.objects()[Number(name) - 1];
      if (object) editor.select(object.id);
      return;
    }
    const work = works.get(name);
    if (!work) return;
    event.preventDefault();
    kept = event.key === " ";
    if (!event.repeat || !toggles.has(name)) work(editor);
  }, { signal });
}

function keysElement(keys) {
  return keys.map((key, index) => [
    index ? " or " : "",
    ...key.split(/\+(?!$)/).map((part) => h("kbd", {}, signs[part] ?? (part.length === 1 ? part.toUpperCase() : part))),
  ]).flat();
}

export function showHelp() {
  const lists = groups.map(([title, rows]) => h("section", {}, h("h3", {}, title),
    h("dl", {}, rows.map(([keys, text]) => h("div", {}, h("dt", {}, keysElement(keys)), h("dd", {}, text))))));
  lists.push(h("section", {}, h("h3", {}, "More"),
    h("dl", {}, fixed.map(([keys, text]) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text))))));
  const dialog = openDialog("Keyboard and mouse", h("div", { class: "help" }, lists), { wide: true });
  dialog.querySelector(".dialog-body").tabIndex = 0; // nothing in it can have the focus, and it has to be scrolled by keys
}
