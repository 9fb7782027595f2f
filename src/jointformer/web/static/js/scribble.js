// The tool that makes masks of scribbles.

import { ring } from "./guides.js";

/** Scribbles on the object and beside it; the server makes a mask of them, shown at once and kept with Enter. */
export class Scribble {
  strokes = [];
  asked = 0;

  constructor(editor) {
    this.editor = editor;
  }

  get busy() {
    return this.strokes.length > 0;
  }

  down(point, { erase }) {
    if (!this.editor.beginStroke()) return;
    const inside = erase ? false : this.editor.scribbleInside;
    this.drawn = { points: [[point.x, point.y]], radius: Math.max(1, this.editor.brush / 4), inside };
    this.strokes.push(this.drawn);
  }

  move(point) {
    this.drawn?.points.push([point.x, point.y]);
  }

  async up() {
    if (!this.drawn) return;
    this.drawn = null;
    await this.ask();
  }

  drop() {
    if (!this.drawn) return;
    this.drawn = null;
    this.strokes.pop();
    this.editor.changed("tool");
  }

  async ask() {
    const turn = ++this.asked;
    this.editor.changed("tool");
    if (!this.strokes.some((stroke) => stroke.inside)) {
      this.editor.showMasks(true);
      if (this.strokes.length) this.editor.say("Scribble over the object, too.");
      return;
    }
    const runs = await this.editor.cutOut({ strokes: this.strokes });
    if (runs && turn === this.asked) this.editor.stage.paintRuns(runs, true);
  }

  keep() {
    const any = this.strokes.some((stroke) => stroke.inside);
    this.asked++;
    this.strokes = [];
    if (any) this.editor.keepMask();
    this.editor.changed("tool");
    this.editor.stage.redraw();
  }

  cancel() {
    const any = this.strokes.length > 0;
    this.asked++;
    this.strokes = [];
    this.drawn = null;
    if (any) this.editor.showMasks(true);
    this.editor.changed("tool");
  }

  leave() {
    if (this.strokes.length) this.keep();
  }

  undo() {
    if (!this.strokes.length) return false;
    this.strokes.pop();
    this.ask();
    return true;
  }

  key(name) {
    if (!this.strokes.length) return false;
    if (name === "Enter") this.keep();
    else if (name === "Escape") this.cancel();
    else if (name === "Backspace") this.undo();
    else return false;
    return true;
  }

  draw(context, stage) {
    for (const stroke of this.strokes) {
      const path = new Path2D();
      for (const [x, y] of stroke.points) {
        const point = stage.toScreen({ x, y });
        path.lineTo(point.x, point.y);
      }
      context.lineCap = context.lineJoin = "round";
      for (const [style, extra] of [["rgb(0 0 0 / 55%)", 3], [stroke.inside ? "#3ddc84" : "#ff5d5d", 0]]) {
        context.strokeStyle = style;
        context.lineWidth = Math.max(3, 2 * stroke.radius * stage.view.scale) + extra;
        context.stroke(path);
      }
    }
    ring(context, stage, this.editor.brush / 4, !this.editor.scribbleInside);
  }
}
