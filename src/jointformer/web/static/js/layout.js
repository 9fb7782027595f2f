// Where the parts of the project's page are.

import { dropTarget, h, icon, iconButton, press } from "./dom.js";
import { openExport } from "./exportdialog.js";
import { showHelp } from "./keys.js";
import { framePanel, objectsPanel, trackPanel } from "./panels.js";
import { lookButton } from "./theme.js";
import { timeline } from "./timeline.js";
import { toolRows } from "./tools.js";

export function layOut(editor) {
  const page = h("div", { class: "editor" },
    topBar(editor),
    toolBar(editor),
    h("main", { class: "centre" }, toolOptions(editor), editor.stage.element, zoomBar(editor), connectionNote(editor)),
    h("aside", { class: "side" }, objectsPanel(editor), framePanel(editor), trackPanel(editor)),
    h("footer", { class: "bottom" }, transport(editor), timeline(editor)));
  dropTarget(page, "Drop pictures of masks to load them", (files) => editor.addMaskFiles(files), editor.control.signal);
  return page;
}

function topBar(editor) {
  const name = h("input", { type: "text", class: "project-name", value: editor.state.name, maxLength: 120, spellcheck: false, "aria-label": "Name of the project",
    onchange: async () => {
      const text = name.value.trim();
      const kept = text && (await editor.enqueue(() => editor.save("PATCH", "", { name: text })));
      if (!kept) name.value = editor.state.name;
    } });
  const heading = h("h1", { class: "unseen" }); // a field is no heading, and readers of screens go by headings
  const facts = h("span", { class: "quiet facts" });
  const undo = iconButton("undo", "Undo (Ctrl+Z)", () => editor.undo());
  const redo = iconButton("redo", "Redo (Ctrl+Shift+Z)", () => editor.redo());
  const saved = h("span", { class: "quiet saved", role: "status" });
  editor.on("state", () => {
    if (document.activeElement !== name) name.value = editor.state.name;
    heading.textContent = name.title = editor.state.name; // the field may be too narrow for all of it
    const { width, height, fps, frames } = editor.state;
    facts.textContent = `${width}×${height} · ${Number(fps.toFixed(2))} fps · ${frames} frames`;
    undo.disabled = !editor.state.undo;
    redo.disabled = !editor.state.redo;
  });
  editor.on("saving state", () => {
    saved.textContent = editor.working ? "Cutting out …" : editor.saving ? "Saving …" : editor.refused ? "Not saved" : "Saved";
    saved.classList.toggle("active", Boolean(editor.working || editor.saving));
    saved.classList.toggle("failed", editor.refused && !editor.working && !editor.saving);
  });
  return h("header", { class: "top" },
    h("a", { class: "icon-button", href: "#/", title: "All projects", "aria-label": "All projects" }, icon("back")),
    heading, name, facts, h("span", { class: "spacer" }), saved, undo, redo,
    h("button", { type: "button", class: "primary export-button", title: "Export", onclick: () => openExport(editor) }, icon("download"), h("span", {}, "Export")),
    iconButton("help", "Keyboard and mouse (?)", showHelp), lookButton());
}

function toolBar(editor) {
  const buttons = toolRows.map((row) => iconButton(row.icon, `${row.title} (${row.key})`, () => editor.setTool(row.name), { dataset: { tool: row.name } }));
  editor.on("tool", () => {
    for (const button of buttons) press(button, button.dataset.tool === editor.toolName);
  });
  return h("nav", { class: "tools", "aria-label": "Tools" }, buttons);
}

function toolOptions(editor) {
  const size = h("input", { type: "range", min: 1, max: 200, "aria-label": "Brush size", oninput: () => editor.setBrush(Number(size.value)) });
  const number = h("output", {});
  const sizes = h("label", { class: "option" }, "Size", size, number);
  const inside = h("button", { type: "button", onclick: () => { editor.scribbleInside = true; editor.changed("tool"); } }, h("i", { class: "dot inside" }), "Object");
  const outside = h("button", { type: "button", onclick: () => { editor.scribbleInside = false; editor.changed("tool"); } }, h("i", { class: "dot outside" }), "Background");
  const keep = h("button", { type: "button", class: "primary", title: "Keep (Enter)", onclick: () => editor.tool.keep() }, icon("check"), "Keep");
  const discard = iconButton("close", "Discard (Esc)", () => editor.tool.cancel());
  const scribbles = h("div", { class: "option" }, h("div", { class: "segments" }, inside, outside), keep, discard);
  const [replace, add] = [["Replace", false], ["Add", true]].map(([text, adds]) => h("button", { type: "button",
    title: adds ? "What the box cuts out is added to the object's mask" : "What the box cuts out takes the place of the object's mask",
    onclick: () => { editor.boxAdds = adds; editor.changed("tool"); } }, text));
  const boxes = h("div", { class: "option" }, h("div", { class: "segments" }, replace, add));
  const hint = h("span", { class: "quiet hint" });
  const hints = {
    polygon: "Click corners; click the first one or press Enter to close.",
    box: "Drag a box around the whole object.",
    hand: "Drag to move, wheel or two fingers to zoom.",
  };
  const opacity = h("input", { type: "range", min: 0, max: 100, value: 45, "aria-label": "Opacity of the masks", oninput: () => {
    editor.stage.opacity = Number(opacity.value) / 100;
    editor.stage.renderOverlay();
  } });
  const masks = iconButton("eye", "Show or hide all masks (V)", () => editor.toggleMasks());
  editor.on("view", () => masks.replaceChildren(icon(editor.stage.showMasks ? "eye" : "eyeOff")));
  editor.on("tool", () => {
    const { toolName, tool } = editor;
    sizes.hidden = !["brush", "eraser", "scribble"].includes(toolName);
    scribbles.hidden = toolName !== "scribble";
    boxes.hidden = toolName !== "box";
    press(replace, !editor.boxAdds);
    press(add, editor.boxAdds);
    size.value = editor.brush;
    number.textContent = editor.brush;
    press(inside, editor.scribbleInside);
    press(outside, !editor.scribbleInside);
    keep.hidden = discard.hidden = !tool.busy;
    hint.textContent = hints[toolName] ?? "";
  });
  return h("div", { class: "tool-options" }, sizes, scribbles, boxes, hint, h("span", { class: "spacer" }), h("label", { class: "option masks-option" }, "Masks", opacity), masks);
}

function zoomBar(editor) {
  const label = h("button", { type: "button", class: "zoom-label", title: "Fit (0)", onclick: () => editor.stage.fit() });
  editor.stage.onzoom = () => { label.textContent = `${Math.round(editor.stage.view.scale * 100)} %`; };
  return h("div", { class: "zoom-bar" },
    h("button", { type: "button", title: "Zoom out (-)", "aria-label": "Zoom out", onclick: () => editor.stage.zoom(0.8) }, "−"), label,
    h("button", { type: "button", title: "Zoom in (+)", "aria-label": "Zoom in", onclick: () => editor.stage.zoom(1.25) }, "+"));
}

function connectionNote(editor) {
  const note = h("div", { class: "connection", role: "alert", hidden: true }, h("span", { class: "spinner" }), "The server does not answer. Trying again …");
  editor.on("connection", () => { note.hidden = editor.connected; });
  return note;
}

function transport(editor) {
  const last = editor.state.frames - 1;
  const play = iconButton("play", "Play (Space)", () => editor.togglePlay(), { class: "play" });
  const number = h("input", { type: "number", min: 0, max: last, "aria-label": "Frame number", onchange: () => {
    if (number.value) editor.step(Number(number.value) - editor.frame);
    number.value = editor.frame; // what was typed may be no frame
  } });
  number.style.setProperty("--digits", String(last).length);
  const time = h("span", { class: "quiet time" });
  editor.on("playing", () => {
    const text = editor.playing ? "Pause (Space)" : "Play (Space)";
    play.replaceChildren(icon(editor.playing ? "pause" : "play"));
    play.title = text;
    play.setAttribute("aria-label", text);
  });
  editor.on("frame state", () => {
    if (document.activeElement !== number) number.value = editor.frame;
    const seconds = editor.frame / editor.state.fps;
    time.textContent = `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  });
  return h("div", { class: "transport" },
    iconButton("first", "First frame (Home)", () => editor.step(-editor.frame)),
    iconButton("previousMark", "Annotated frame before (,)", () => editor.goToMark(-1)),
    iconButton("previous", "One frame back (←)", () => editor.step(-1)), play,
    iconButton("next", "One frame on (→)", () => editor.step(1)),
    iconButton("nextMark", "Annotated frame after (.)", () => editor.goToMark(1)),
    iconButton("last", "Last frame (End)", () => editor.step(last)),
    h("label", { class: "frame-number" }, number, h("span", { class: "quiet" }, `/ ${last}`)), time);
}
