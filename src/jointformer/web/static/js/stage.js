// The picture with its masks, and drawing into them.

import { extent, fillRuns, union } from "./runs.js";
import { colour } from "./theme.js";
import { Viewport } from "./viewport.js";

export class Stage extends Viewport {
  constructor(size) {
    super(size);
    this.labels = new Uint8Array(this.width * this.height); // slot of each pixel, 0 background
    this.overlay = new OffscreenCanvas(this.width, this.height);
    this.overlayContext = this.overlay.getContext("2d");
    this.image = this.overlayContext.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.coloured = null; // the part of the overlay outside which nothing is coloured
    this.slots = []; // [{id, colour, visible}], slot n is slots[n - 1]
    this.metHidden = false; // whether what was drawn last met a hidden object
    this.selected = 0;
    this.opacity = 0.45;
    this.showMasks = true;
    this.picture = null;
    this.moving = false;
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.waiting);
  }

  // -- what is shown

  /** Says whether the video plays: pictures are drawn quicker then, and finer when it stands. */
  setMoving(moving) {
    this.moving = moving;
    this.redraw();
  }

  setPicture(bitmap) {
    this.picture = bitmap;
    this.redraw();
  }

  /** Shows masks {id: {runs}} of objects [{id, colour, visible}], the one that is drawn with strongly. */
  setMasks(masks, objects, selected) {
    this.slots = objects;
    this.selected = objects.findIndex((object) => object.id === selected) + 1;
    this.labels.fill(0);
    let part = null;
    objects.forEach((object, index) => {
      const mask = masks[object.id];
      if (!mask) return;
      fillRuns(this.labels, mask.runs, index + 1);
      part = union(part, extent(mask.runs, this.width));
    });
    // Only where masks were and are: colouring every pixel of a large frame takes longer than playing has time.
    this.renderOverlay(union(this.coloured, part) ?? { left: 0, top: 0, right: 0, bottom: 0 });
    this.coloured = part;
  }

  select(id) {
    this.selected = this.slots.findIndex((object) => object.id === id) + 1;
    this.renderOverlay();
  }

  /** Colours the pixels of a part of the overlay again (all of it by default). */
  renderOverlay(part = { left: 0, top: 0, right: this.width, bottom: this.height }) {
    const { width, height, labels, pixels } = this;
    this.coloured = union(this.coloured, part);
    const line = this.outline();
    this.outlined = line;
    const x0 = Math.max(0, Math.floor(part.left - line));
    const y0 = Math.max(0, Math.floor(part.top - line));
    const x1 = Math.min(width, Math.ceil(part.right + line));
    const y1 = Math.min(height, Math.ceil(part.bottom + line));
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

  rescaled() {
    if (this.outline() === this.outlined) this.redraw();
    else this.renderOverlay();
    this.onzoom?.();
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
    if (ratio !== this.sized) {
      this.resize(); // the window has come to another screen, which no observer of sizes tells
      return;
    }
    const { scale, x, y } = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = colour("--stage");
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    context.imageSmoothingEnabled = scale < 3;
    // Without a GPU "high" takes longer than a frame of a large video is shown.
    context.imageSmoothingQuality = this.moving ? "low" : "high";
    if (this.picture) context.drawImage(this.picture, 0, 0, this.width, this.height);
    if (this.showMasks) {
      context.imageSmoothingEnabled = scale < 4;
      context.drawImage(this.overlay, 0, 0);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.tool?.draw?.(context, this);
  }

  // -- drawing into the selected object's mask

  /** Whether a pixel is a hidden object's, which is noted: nobody sees what would be taken from it. */
  meetsHidden(i) {
    const hidden = this.labels[i] > 0 && this.slots[this.labels[i] - 1]?.visible === false;
    this.metHidden ||= hidden;
    return hidden;
  }

  /** Gives a pixel to the selected object, or takes it away. */
  put(i, erase) {
    if (erase) {
      if (this.labels[i] === this.selected) this.labels[i] = 0;
    } else if (!this.meetsHidden(i)) this.labels[i] = this.selected;
  }

  /** Paints a line with round ends between two points of the frame. */
  paint(a, b, radius, erase) {
    const part = {
      left: Math.min(a.x, b.x) - radius - 1, top: Math.min(a.y, b.y) - radius - 1,
      right: Math.max(a.x, b.x) + radius + 2, bottom: Math.max(a.y, b.y) + radius + 2,
    };
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const length = dx * dx + dy * dy;
    for (let y = Math.max(0, Math.floor(part.top)); y < Math.min(this.height, part.bottom); y++) {
      for (let x = Math.max(0, Math.floor(part.left)); x < Math.min(this.width, part.right); x++) {
        const px = x + 0.5 - a.x;
        const py = y + 0.5 - a.y;
        const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if ((px - t * dx) ** 2 + (py - t * dy) ** 2 > radius * radius) continue;
        const i = y * this.width + x;
        this.put(i, erase);
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
      this.put(i, erase);
    }
    this.renderOverlay();
  }

  /** Adds runs to an object's mask, or puts them in its place. */
  paintRuns(id, runs, replace) {
    const slot = this.slots.findIndex((object) => object.id === id) + 1;
    const given = new Uint8Array(this.labels.length);
    fillRuns(given, runs, slot);
    for (let i = 0; i < this.labels.length; i++) {
      if (given[i] && !this.meetsHidden(i)) this.labels[i] = slot;
      else if (replace && this.labels[i] === slot) this.labels[i] = 0;
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
