// The tool that makes masks of scribbles.

import { ring } from "./guides.js";

/** Scribbles on the object and beside it; the server makes a mask of them, shown at once and kept with Enter. */
export class Scribble {
  strokes = [];
  answer = null; // what the strokes cut out, as a promise; null where that is nothing
  painted = false; // whether it is shown
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
    const { editor } = this;
    this.answer = null;
    this.painted = false;
    editor.changed("tool");
    if (!this.strokes.some((stroke) => stroke.inside)) {
      editor.showMasks(true);
      if (this.strokes.length) editor.say("Scribble over the object, too.");
      return;
    }
    const answer = editor.cutOut(editor.frame, editor.selectedObject(), { strokes: this.strokes });
    this.answer = answer;
    const runs = await answer;
    if (turn !== this.asked) return;
    if (editor.standsOut(runs)) {
      editor.stage.paintRuns(editor.selected, runs, true);
      this.painted = true;
    } else {
      this.answer = null;
      editor.showMasks(true); // what fewer scribbles cut out is not what these do
    }
  }

  /** What is shown is kept; where the answer is still on its way, that is waited for: masks shown before are none of these. */
  keep() {
    const { answer, painted, strokes } = this;
    this.forget();
    if (painted) this.editor.keepMask();
    else if (answer) this.editor.keepCutOut(() => answer);
    else if (strokes.length) this.editor.showMasks(true);
    this.editor.changed("tool");
    this.editor.stage.redraw();
  }

  cancel() {
    const any = this.strokes.length > 0;
    this.forget();
    if (any) this.editor.showMasks(true);
    this.editor.changed("tool");
  }

  forget() {
    this.asked++;
    this.strokes = [];
    this.drawn = this.answer = null;
    this.painted = false;
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
