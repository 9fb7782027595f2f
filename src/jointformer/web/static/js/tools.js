// The drawing tools. Each has down, move and up (points of the frame), drop (the stroke since down), cancel, draw and key,
// as far as it needs them.

import { cross, outlined, rgb, ring } from "./guides.js";
import { Scribble } from "./scribble.js";

class Pan {
  pans = true;
}

class Brush {
  constructor(editor, erases) {
    this.editor = editor;
    this.erases = erases;
  }

  down(point, { erase }) {
    if (!this.editor.beginStroke()) return;
    this.erase = this.erases || erase;
    this.last = point;
    this.editor.stage.paint(point, point, this.editor.brush / 2, this.erase);
  }

  move(point) {
    if (!this.last) return;
    this.editor.stage.paint(this.last, point, this.editor.brush / 2, this.erase);
    this.last = point;
  }

  up() {
    if (!this.last) return;
    this.last = null;
    this.editor.keepMask();
  }

  drop() {
    if (!this.last) return;
    this.last = null;
    this.editor.showMasks();
  }

  draw(context, stage) {
    ring(context, stage, this.editor.brush / 2, this.erases);
  }
}

class Polygon {
  points = [];
  mouse = null;

  constructor(editor) {
    this.editor = editor;
  }

  get busy() {
    return this.points.length > 0;
  }

  down(point, { erase }) {
    if (!this.points.length) {
      if (!this.editor.beginStroke()) return;
      this.erase = erase;
    }
    const { stage } = this.editor;
    const first = this.points[0];
    if (this.points.length > 2 && Math.hypot(point.x - first.x, point.y - first.y) * stage.view.scale < 12) this.finish();
    else this.points.push(point);
    this.mouse = point;
  }

  move(point) {
    this.mouse = point;
  }

  drop() {
    this.points.pop();
  }

  over(point) {
    this.mouse = point;
  }

  double() {
    this.points.pop(); // the double click's second point
    this.finish();
  }

  finish() {
    const { points } = this;
    this.points = [];
    if (points.length > 2) {
      this.editor.stage.paintPolygon(points, this.erase);
      this.editor.keepMask();
    }
    this.editor.stage.redraw();
  }

  cancel() {
    this.points = [];
    this.editor.showMasks(); // what has come from elsewhere meanwhile
    this.editor.stage.redraw();
  }

  leave() {
    if (this.points.length) this.editor.say("The polygon that was begun is gone: Enter closes it first.");
    this.cancel();
  }

  key(name) {
    if (!this.points.length) return false;
    if (name === "Enter") this.finish();
    else if (name === "Escape") this.cancel();
    else if (name === "Backspace") this.points.pop();
    else return false;
    this.editor.stage.redraw();
    return true;
  }

  undo() {
    return this.key("Backspace");
  }

  draw(context, stage) {
    if (!this.points.length) return;
    const corners = this.points.map((point) => stage.toScreen(point));
    const path = new Path2D();
    corners.forEach((point) => path.lineTo(point.x, point.y));
    if (this.mouse) {
      const mouse = stage.toScreen(this.mouse);
      path.lineTo(mouse.x, mouse.y);
    }
    outlined(context, path, rgb(this.editor.selectedColour()), this.erase ? [6, 5] : []);
    corners.forEach((point, index) => {
      context.beginPath();
      context.arc(point.x, point.y, index ? 4 : 6.5, 0, 2 * Math.PI);
      context.fillStyle = index ? "white" : rgb(this.editor.selectedColour());
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = "rgb(0 0 0 / 75%)";
      context.stroke();
    });
  }
}

class Box {
  constructor(editor) {
    this.editor = editor;
  }

  get busy() {
    return Boolean(this.start);
  }

  down(point) {
    if (!this.editor.beginStroke()) return;
    this.start = this.end = point;
  }

  move(point) {
    if (this.start) this.end = point;
  }

  up(point) {
    if (!this.start) return;
    const a = this.start;
    this.start = null;
    const box = [Math.min(a.x, point.x), Math.min(a.y, point.y), Math.max(a.x, point.x), Math.max(a.y, point.y)];
    if (box[2] - box[0] < 4 || box[3] - box[1] < 4) this.editor.say("Drag a box around the whole object.");
    else this.editor.keepCutOut((frame, object) => this.editor.cutOut(frame, object, { box }), this.editor.boxAdds);
    this.editor.stage.redraw();
  }

  drop() {
    this.start = null;
  }

  draw(context, stage) {
    if (!this.start) {
      if (stage.hover) cross(context, stage);
      return;
    }
    const a = stage.toScreen(this.start);
    const b = stage.toScreen(this.end);
    const path = new Path2D();
    path.rect(Math.min(a.x, b.x), Math.min(a.y, b.y), Math.abs(a.x - b.x), Math.abs(a.y - b.y));
    outlined(context, path, rgb(this.editor.selectedColour()));
  }
}

export const toolRows = [
  { name: "brush", icon: "brush", title: "Brush", key: "B", make: (editor) => new Brush(editor, false), cursor: "none" },
  { name: "eraser", icon: "eraser", title: "Eraser", key: "E", make: (editor) => new Brush(editor, true), cursor: "none" },
  { name: "polygon", icon: "polygon", title: "Polygon", key: "P", make: (editor) => new Polygon(editor), cursor: "crosshair" },
  { name: "box", icon: "box", title: "Box to mask", key: "X", make: (editor) => new Box(editor), cursor: "crosshair" },
  { name: "scribble", icon: "scribble", title: "Scribbles to mask", key: "S", make: (editor) => new Scribble(editor), cursor: "none" },
  { name: "hand", icon: "hand", title: "Move the picture", key: "H", make: () => new Pan(), cursor: "grab" },
];
