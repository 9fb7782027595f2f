// The strip below the picture: which frames are annotated, tracked and how surely; the range; the playhead.

import { STATUS } from "./status.js";
import { h } from "./dom.js";
import { colour } from "./theme.js";

const PAD = 14;
const RULER = 18;

export function timeline(editor) {
  const canvas = h("canvas", { class: "timeline-canvas", tabIndex: 0, role: "slider", "aria-label": "Frame", "aria-valuemin": 0, "aria-valuemax": editor.state.frames - 1 });
  const element = h("div", { class: "timeline" }, canvas);
  let hover = null;
  let held = null;
  let waiting = 0;

  const frames = editor.state.frames;
  const width = () => element.clientWidth;
  const xOf = (frame) => PAD + ((frame + 0.5) / frames) * (width() - 2 * PAD);
  const frameAt = (x) => Math.min(frames - 1, Math.max(0, Math.floor(((x - PAD) / (width() - 2 * PAD)) * frames)));

  function redraw() {
    waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); });
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const height = element.clientHeight;
    if (!width() || !height) return;
    canvas.width = Math.round(width() * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    drawRuler(context, height);
    drawCells(context, height);
    drawMarks(context, height);
    drawRange(context, height);
    drawHead(context, height);
    canvas.setAttribute("aria-valuenow", editor.frame);
    canvas.setAttribute("aria-valuetext", `Frame ${editor.frame} of ${frames}`);
  }

  function drawRuler(context, height) {
    const step = niceStep(frames, (width() - 2 * PAD) / 70);
    context.fillStyle = colour("--quiet");
    context.strokeStyle = colour("--line");
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textAlign = "center";
    for (let frame = 0; frame < frames; frame += step) {
      const x = xOf(frame);
      if (Math.abs(x - xOf(editor.frame)) > 26) context.fillText(String(frame), x, 12);
      context.beginPath();
      context.moveTo(x, RULER - 2);
      context.lineTo(x, height);
      context.stroke();
    }
  }

  /** One column per frame, or per pixel where there are more frames than pixels: then the least certain one counts. */
  function drawCells(context, height) {
    const top = RULER + 12;
    const room = height - top - 4;
    const span = width() - 2 * PAD;
    const columns = Math.min(frames, Math.floor(span));
    const wide = span / columns;
    const gap = wide > 6 ? 1 : 0;
    const base = colour("--cell");
    const [stale, half] = [colour("--stale"), colour("--half")];
    const sure = [colour("--sure-low"), colour("--sure-middle"), colour("--sure-high")];
    for (let column = 0; column < columns; column++) {
      const first = Math.floor((column * frames) / columns);
      const next = Math.max(first + 1, Math.floor(((column + 1) * frames) / columns));
      let lowest = 255;
      let status = 0;
      for (let frame = first; frame < next; frame++) {
        status = Math.max(status, editor.status[frame]);
        lowest = Math.min(lowest, editor.confidence[frame]);
      }
      const x = PAD + column * wide;
      context.fillStyle = base;
      context.fillRect(x, top, wide - gap, room);
      const held = status === STATUS.held;  // nobody knows how sure, so it stands out
      if (status === STATUS.none || (lowest === 255 && !held)) continue;
      const share = held ? 0 : lowest / 254;
      const high = held ? room : Math.max(3, room * share);
      const unfinished = status === STATUS.half || status === STATUS.partial;
      context.fillStyle = status === STATUS.stale ? stale : unfinished ? half : sure[share < 0.6 ? 0 : share < 0.8 ? 1 : 2];
      context.fillRect(x, top + room - high, wide - gap, high);
    }
  }

  function drawMarks(context, height) {
    const y = RULER + 5;
    context.fillStyle = colour("--mark");
    for (const frame of editor.state.annotated) {
      const x = xOf(frame);
      context.globalAlpha = 0.35;
      const wide = Math.max(2, (width() - 2 * PAD) / frames - 1);
      context.fillRect(x - wide / 2, RULER + 12, wide, height - RULER - 16);
      context.globalAlpha = 1;
      context.beginPath();
      context.moveTo(x, y - 5.5);
      context.lineTo(x + 5.5, y);
      context.lineTo(x, y + 5.5);
      context.lineTo(x - 5.5, y);
      context.fill();
    }
  }

  function drawRange(context, height) {
    const { start, end } = editor.range;
    if (start === 0 && end === frames - 1) return;
    const half = (width() - 2 * PAD) / frames / 2;
    const [left, right] = [xOf(start) - half, xOf(end) + half];
    context.fillStyle = colour("--shade");
    context.fillRect(0, RULER, left, height - RULER);
    context.fillRect(right, RULER, width() - right, height - RULER);
    context.fillStyle = colour("--accent");
    for (const [x, side] of [[left, 1], [right, -1]]) {
      context.fillRect(x - (side < 0 ? 3 : 0), RULER, 3, height - RULER);
      context.fillRect(x - (side < 0 ? 9 : 0), RULER, 9, 3);
      context.fillRect(x - (side < 0 ? 9 : 0), height - 3, 9, 3);
    }
  }

  function drawHead(context, height) {
    if (hover !== null && hover !== editor.frame) {
      context.fillStyle = colour("--line-strong");
      context.fillRect(xOf(hover) - 0.5, RULER, 1, height - RULER);
    }
    const x = xOf(editor.frame);
    const text = String(editor.frame);
    context.font = `600 11px ${getComputedStyle(document.body).fontFamily}`;
    const wide = Math.max(20, context.measureText(text).width + 10);
    const left = Math.min(width() - wide - 2, Math.max(2, x - wide / 2));
    context.fillStyle = colour("--text");
    context.fillRect(x - 1, RULER - 2, 2, height - RULER + 2);
    context.beginPath();
    context.roundRect(left, 0, wide, RULER - 2, 5);
    context.fill();
    context.fillStyle = colour("--surface");
    context.fillText(text, left + wide / 2, 12);
  }

  function edgeAt(x) {
    const { start, end } = editor.range;
    if (start === 0 && end === frames - 1) return null;
    const half = (width() - 2 * PAD) / frames / 2;
    if (Math.abs(x - (xOf(start) - half)) < 7) return "start";
    if (Math.abs(x - (xOf(end) + half)) < 7) return "end";
    return null;
  }

  function drag(x) {
    const frame = frameAt(x);
    if (held === "start") editor.setRange(Math.min(frame, editor.range.end), editor.range.end);
    else if (held === "end") editor.setRange(editor.range.start, Math.max(frame, editor.range.start));
    else if (frame !== editor.frame) editor.go(frame);
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held = edgeAt(event.offsetX) ?? "head";
    editor.pause();
    drag(event.offsetX);
  });
  canvas.addEventListener("pointermove", (event) => {
    hover = frameAt(event.offsetX);
    if (held) drag(event.offsetX);
    else canvas.style.cursor = edgeAt(event.offsetX) ? "ew-resize" : "pointer";
    canvas.title = `Frame ${hover}`;
    redraw();
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { held = null; });
  canvas.addEventListener("pointerleave", () => { hover = null; redraw(); });
  new ResizeObserver(redraw).observe(element);
  editor.on("frame timeline range state", redraw);
  return element;
}

function niceStep(frames, most) {
  for (let unit = 1; ; unit *= 10) {
    for (const times of [1, 2, 5]) if (frames / (unit * times) <= most) return unit * times;
  }
}
