// Elements without markup in strings: nothing a person types can become part of the page.

import { icons } from "./icons.js";

/** Returns an element. Properties: class, dataset, on* listeners, anything else as a property or attribute. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.startsWith("aria") && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Returns an icon of icons.js as an SVG element. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const shape of icons[name]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", shape.replace(/^fill:/, ""));
    if (shape.startsWith("fill:")) path.setAttribute("class", "solid");
    svg.append(path);
  }
  return svg;
}

/** Returns a button with an icon, named for everybody by its title. */
export function iconButton(name, title, onclick, more = {}) {
  return h("button", { type: "button", title, "aria-label": title, onclick, ...more, class: `icon-button ${more.class ?? ""}` },
    icon(name));
}

/** Shows a button as the chosen one of several, or not, to those who see and to those who hear. */
export function press(button, on) {
  button.classList.toggle("on", on);
  button.setAttribute("aria-pressed", on);
}

/** Shows a message at the bottom for some seconds; errors stay longer and can be closed. */
export function toast(text, kind = "info") {
  const box = document.getElementById("toasts");
  // Whatever is outside of an open dialog lies below it, and is neither clicked nor read out.
  const place = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (box.parentElement !== place) place.append(box);
  const same = [...box.children].find((child) => child.dataset.text === text);
  same?.remove();
  const note = h("div", { class: `toast ${kind}`, dataset: { text } }, h("span", {}, text));
  note.append(iconButton("close", "Close", () => note.remove()));
  box.append(note);
  setTimeout(() => note.remove(), kind === "error" ? 12000 : 4000);
}

/**
 * Takes files that are dropped anywhere until `signal`; `text` says over `page`, while they hover, what will be done.
 * Browsers would else leave the page to show them. `instead`: what to do with a folder.
 */
export function dropTarget(page, text, take, signal, instead = "drop the pictures in it") {
  const listen = (kind, work) => document.addEventListener(kind, work, { signal });
  const hover = (over) => page.classList.toggle("dropping", over && !document.querySelector("dialog[open]"));
  page.dataset.drop = text;
  listen("dragover", (event) => {
    event.preventDefault();
    hover([...event.dataTransfer.types].includes("Files"));
  });
  listen("dragleave", (event) => { if (!event.relatedTarget) hover(false); });
  listen("drop", (event) => {
    event.preventDefault();
    hover(false);
    const { files = [], items = [] } = event.dataTransfer ?? {};
    if (document.querySelector("dialog[open]")) return;
    if ([...items].some((item) => item.webkitGetAsEntry?.()?.isDirectory)) toast(`That is a folder: ${instead}.`, "error");
    else if (files.length) take([...files]);
  });
}

/** Opens a modal dialog and returns it; it is gone when closed, by Esc, its cross or a click beside it. */
export function openDialog(title, content, { wide = false, onclose } = {}) {
  const dialog = h("dialog", { class: wide ? "wide" : "", "aria-label": title });
  const head = h("header", {}, h("h2", {}, title), iconButton("close", "Close", () => dialog.close()));
  dialog.append(head, h("div", { class: "dialog-body" }, content));
  let beside = false; // whether the pointer went down there: text may be selected up to beyond the edge
  dialog.addEventListener("pointerdown", (event) => { beside = event.target === dialog; });
  dialog.addEventListener("click", (event) => beside && event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    document.body.append(...dialog.querySelectorAll("#toasts"));
    dialog.remove();
    onclose?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks a yes-or-no question and resolves to the answer. */
export function confirmDialog(title, text, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const dialog = openDialog(title, [
      h("p", {}, text),
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => { answer = true; dialog.close(); } }, yes)),
    ], { onclose: () => resolve(answer) });
  });
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(1)} MB`;
  return `${(count / 1e9).toFixed(2)} GB`;
}

/** "45 s", "3 min", "1 h 20 min": as exact as an estimate is. */
export function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function ago(seconds) {
  const passed = Date.now() / 1000 - seconds;
  if (passed < 90) return "just now";
  if (passed < 5400) return `${Math.round(passed / 60)} minutes ago`;
  if (passed < 129600) return `${Math.round(passed / 3600)} hours ago`;
  return new Date(seconds * 1000).toLocaleDateString();
}
