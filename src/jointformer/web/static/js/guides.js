// What the tools draw over the picture while they are used.

import { colour } from "./theme.js";

export const rgb = (value) => `rgb(${value.join(" ")})`;

/** The brush's edge around the pointer; dashed where it takes away. */
export function ring(context, stage, radius, erase) {
  if (!stage.hover) return;
  const { x, y } = stage.toScreen(stage.hover);
  const r = Math.max(2, radius * stage.view.scale);
  for (const [style, width] of [["rgb(0 0 0 / 70%)", 3], ["white", 1.4]]) {
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.setLineDash(erase ? [5, 4] : []);
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
  context.setLineDash([]);
}

/** A path in a colour that is seen on every ground. */
export function outlined(context, path, style, dash = []) {
  context.setLineDash(dash);
  for (const [line, width] of [["rgb(0 0 0 / 65%)", 4], [style, 2]]) {
    context.strokeStyle = line;
    context.lineWidth = width;
    context.stroke(path);
  }
  context.setLineDash([]);
}

/** Lines through the pointer, for placing a box. */
export function cross(context, stage) {
  const { x, y } = stage.toScreen(stage.hover);
  const { clientWidth, clientHeight } = stage.element;
  context.strokeStyle = colour("--guide");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, y + 0.5);
  context.lineTo(clientWidth, y + 0.5);
  context.moveTo(x + 0.5, 0);
  context.lineTo(x + 0.5, clientHeight);
  context.stroke();
}
