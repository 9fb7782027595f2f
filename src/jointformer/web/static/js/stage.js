// The picture with its masks: zoom and pan, drawing into the masks, pointers of all kinds.

import { fillRuns } from "./runs.js";
import { colour } from "./theme.js";

const MOST_ZOOM = 24;

export class Stage {
  constructor(size) {
    [this.height, this.width] = size;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "stage-canvas";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "Picture and masks");
    this.element = document.createElement("div");
    this.element.className = "stage";
    this.element.append(this.canvas);
    this.labels = new Uint8Array(this.width * this.height); // slot of each pixel, 0 background
    this.overlay = new OffscreenCanvas(this.width, this.height);
    this.overlayContext = this.overlay.getContext("2d");
    this.image = this.overlayContext.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.slots = []; // [{id, colour, visible}], slot n is slots[n - 1]
    this.selected = 0;
    this.opacity = 0.45;
    this.showMasks = true;
    this.picture = null;
    this.tool = null;
    this.pointers = new Map();
    this.hover = null;
    this.penSeen = false;
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.waiting);
  }

  // -- what is shown

  setPicture(bitmap) {
    this.picture = bitmap;
    this.redraw();
  }

  /** Shows masks {id: {runs}} of objects [{id, colour, visible}]. */
  setMasks(masks, objects) {
    this.slots = objects;
    this.labels.fill(0);
    objects.forEach((object, index) => {
      const mask = masks[object.id];
      if (mask) fillRuns(this.labels, mask.runs, index + 1);
    });
    this.renderOverlay();
  }

  select(id) {
    this.selected = this.slots.findIndex((object) => object.id === id) + 1;
    this.renderOverlay();
  }

  /** Colours the pixels of a part of the overlay again (all of it by default). */
  renderOverlay(part) {
    const { width, height, labels, pixels } = this;
    const line = this.outline();
    this.outlined = line;
    const x0 = Math.max(0, Math.floor((part?.left ?? 0) - line));
    const y0 = Math.max(0, Math.floor((part?.top ?? 0) - line));
    const x1 = Math.min(width, Math.ceil((part?.right ?? width) + line));
    const y1 = Math.min(height, Math.ceil((part?.bottom ?? height) + line));
    if (x0 >= x1 || y0 >= y1) return;
    const fills = [0];
    const edges = [0];
    this.slots.forEach((object, index) => {
      const strong = index + 1 === this.selected;
      fills.push(object.visible ? packed(object.colour, this.opacity * (strong ? 1 : 0.85)) : 0);
      edges.push(object.visible ? packed(strong ? lighter(object.colour, 0.55) : lighter(object.colour, 0.15), strong ? 1 : 0.8) : 0);
    });
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const i = y * width + x;
        const label = labels[i];
        if (!label) {
          pixels[i] = 0;
          continue;
        }
        const edge = x < line || y < line || x >= width - line || y >= height - line
          || labels[i - line] !== label || labels[i + line] !== label
          || labels[i - line * width] !== label || labels[i + line * width] !== label;
        pixels[i] = edge ? edges[label] : fills[label];
      }
    }
    this.overlayContext.putImageData(this.image, 0, 0, x0, y0, x1 - x0, y1 - y0);
    this.redraw();
  }

  /** The outlines' width in pixels of the frame: they have to be seen when the picture is shown small. */
  outline() {
    return Math.max(1, Math.round(1.3 / (this.view.scale * this.ratio())));
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const ratio = this.ratio();
    const { scale, x, y } = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = colour("--stage");
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    if (this.picture) context.drawImage(this.picture, 0, 0, this.width, this.height);
    if (this.showMasks) {
      context.imageSmoothingEnabled = scale < 4;
      context.drawImage(this.overlay, 0, 0);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.tool?.draw?.(context, this);
  }

  // -- zoom and pan

  ratio() {
    return window.devicePixelRatio || 1;
  }

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    this.canvas.width = Math.round(clientWidth * this.ratio());
    this.canvas.height = Math.round(clientHeight * this.ratio());
    if (this.fitted) this.fit();
    else this.keepInside();
    this.draw();
  }

  fitScale() {
    const { clientWidth, clientHeight } = this.element;
    return Math.min((clientWidth - 24) / this.width, (clientHeight - 24) / this.height);
  }

  fit() {
    const { clientWidth, clientHeight } = this.element;
    const scale = Math.max(0.01, this.fitScale());
    this.view = { scale, x: (clientWidth - this.width * scale) / 2, y: (clientHeight - this.height * scale) / 2 };
    this.fitted = true;
    this.rescaled();
  }

  /** Zooms by a factor around a point of the element. */
  zoom(factor, at) {
    const { clientWidth, clientHeight } = this.element;
    const point = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const least = Math.min(1, this.fitScale());
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.view.scale * factor));
    const change = scale / this.view.scale;
    this.view = { scale, x: point.x - (point.x - this.view.x) * change, y: point.y - (point.y - this.view.y) * change };
    this.fitted = scale <= this.fitScale() * 1.001;
    if (this.fitted) this.fit();
    this.keepInside();
    this.rescaled();
  }

  rescaled() {
    if (this.outline() === this.outlined) this.redraw();
    else this.renderOverlay();
    this.onzoom?.();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.keepInside();
    this.redraw();
  }

  /** Some of the picture always stays in sight. */
  keepInside() {
    const { clientWidth, clientHeight } = this.element;
    const { scale } = this.view;
    const margin = 80;
    this.view.x = Math.min(clientWidth - margin, Math.max(margin - this.width * scale, this.view.x));
    this.view.y = Math.min(clientHeight - margin, Math.max(margin - this.height * scale, this.view.y));
  }

  toFrame(point) {
    return { x: (point.x - this.view.x) / this.view.scale, y: (point.y - this.view.y) / this.view.scale };
  }

  toScreen(point) {
    return { x: point.x * this.view.scale + this.view.x, y: point.y * this.view.scale + this.view.y };
  }

  // -- pointers

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.redraw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", (event) => this.tool?.double?.(this.toFrame(this.at(event))));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 18 : 1;
      if (event.shiftKey) this.pan(-(event.deltaX || event.deltaY) * unit, 0);
      else this.zoom(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002)), this.at(event));
    }, { passive: false });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (event.pointerType === "pen") this.penSeen = true;
    const touches = event.pointerType === "touch";
    if (this.pointers.size > 1) {
      // A second finger: the first one's stroke was none.
      if (this.drawing !== undefined) this.tool?.cancel?.();
      this.drawing = undefined;
      this.pinch = this.pinchNow();
      return;
    }
    // With a pen at hand, fingers and the ball of the hand only move the picture.
    const pans = event.button === 1 || this.tool?.pans || (touches && this.penSeen);
    if (pans) {
      this.panning = event.pointerId;
      this.canvas.classList.add("grabbing");
    } else if (event.button === 0 || event.button === 2) {
      this.drawing = event.pointerId;
      this.tool?.down?.(this.toFrame(at), { erase: event.button === 2 || event.altKey, shift: event.shiftKey });
    }
  }

  move(event) {
    const at = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (event.pointerType !== "touch") this.hover = this.toFrame(at);
    if (before) this.pointers.set(event.pointerId, at);
    if (this.pinch && this.pointers.size === 2) {
      const now = this.pinchNow();
      this.pan(now.x - this.pinch.x, now.y - this.pinch.y);
      this.zoom(now.distance / Math.max(1, this.pinch.distance), now);
      this.pinch = now;
    } else if (this.panning === event.pointerId && before) {
      this.pan(at.x - before.x, at.y - before.y);
    } else if (this.drawing === event.pointerId) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) this.tool?.move?.(this.toFrame(this.at(step)));
    } else {
      this.tool?.over?.(this.toFrame(at));
    }
    this.redraw();
  }

  up(event, cancelled = false) {
    const was = this.drawing === event.pointerId;
    this.pointers.delete(event.pointerId);
    if (this.pointers.size < 2) this.pinch = null;
    if (this.panning === event.pointerId) {
      this.panning = undefined;
      this.canvas.classList.remove("grabbing");
    }
    if (!was) return;
    this.drawing = undefined;
    if (cancelled) this.tool?.cancel?.();
    else this.tool?.up?.(this.toFrame(this.at(event)));
  }

  pinchNow() {
    const [a, b] = [...this.pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  get busy() {
    return this.drawing !== undefined || Boolean(this.tool?.busy);
  }

  // -- drawing into the selected object's mask

  /** Paints a line with round ends between two points of the frame. */
  paint(a, b, radius, erase) {
    const part = {
      left: Math.min(a.x, b.x) - radius - 1, top: Math.min(a.y, b.y) - radius - 1,
      right: Math.max(a.x, b.x) + radius + 2, bottom: Math.max(a.y, b.y) + radius + 2,
    };
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const length = dx * dx + dy * dy;
    const slot = this.selected;
    for (let y = Math.max(0, Math.floor(part.top)); y < Math.min(this.height, part.bottom); y++) {
      for (let x = Math.max(0, Math.floor(part.left)); x < Math.min(this.width, part.right); x++) {
        const px = x + 0.5 - a.x;
        const py = y + 0.5 - a.y;
        const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if ((px - t * dx) ** 2 + (py - t * dy) ** 2 > radius * radius) continue;
        const i = y * this.width + x;
        if (!erase) this.labels[i] = slot;
        else if (this.labels[i] === slot) this.labels[i] = 0;
      }
    }
    this.renderOverlay(part);
  }

  /** Fills (or empties) the inside of a polygon of frame points. */
  paintPolygon(points, erase) {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.beginPath();
    points.forEach((point) => context.lineTo(point.x, point.y));
    context.fill();
    const data = context.getImageData(0, 0, this.width, this.height).data;
    for (let i = 0; i < this.labels.length; i++) {
      if (data[4 * i + 3] < 128) continue;
      if (!erase) this.labels[i] = this.selected;
      else if (this.labels[i] === this.selected) this.labels[i] = 0;
    }
    this.renderOverlay();
  }

  /** Adds runs to the selected object's mask, or puts them in its place. */
  paintRuns(runs, replace) {
    const given = new Uint8Array(this.labels.length);
    fillRuns(given, runs, 1);
    for (let i = 0; i < this.labels.length; i++) {
      if (given[i]) this.labels[i] = this.selected;
      else if (replace && !given[i] && this.labels[i] === this.selected) this.labels[i] = 0;
    }
    this.renderOverlay();
  }

  clearSelected() {
    for (let i = 0; i < this.labels.length; i++) if (this.labels[i] === this.selected) this.labels[i] = 0;
    this.renderOverlay();
  }

  selectedMask() {
    const mask = new Uint8Array(this.labels.length);
    for (let i = 0; i < mask.length; i++) mask[i] = this.labels[i] === this.selected ? 1 : 0;
    return mask;
  }
}

function packed([r, g, b], alpha) {
  return ((Math.round(alpha * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

function lighter(rgb, share) {
  return rgb.map((channel) => Math.round(channel + (255 - channel) * share));
}
