// Drawing, and strokes on their way to the server.

import { call, sendFiles } from "./api.js";
import { Objects } from "./objects.js";
import { encodeRuns, fillRuns } from "./runs.js";
import { toolRows } from "./tools.js";

/** What the server calls an edit, as people do. */
const EDITS = { masks: "masks", clear: "masks taken back", remove: "an object deleted", object: "a name or colour", track: "the tracking run" };

export class Drawing extends Objects {
  get tool() {
    return this.tools[this.toolName];
  }

  /** Whether a stroke is being drawn: until its end, no other pointer may take it to another frame, object or tool. */
  get held() {
    return this.stage.drawing !== undefined;
  }

  /** Forgets what is being drawn. */
  giveUp() {
    this.stage.drop();
    this.tool.cancel?.();
  }

  setTool(name) {
    if (name !== this.toolName && this.held) return;
    if (name !== this.toolName) this.tool.leave?.();
    this.toolName = name;
    this.stage.tool = this.tool;
    this.stage.canvas.style.cursor = toolRows.find((row) => row.name === name).cursor;
    this.stage.redraw();
    this.changed("tool");
  }

  setBrush(size) {
    this.brush = Math.min(400, Math.max(1, Math.round(size)));
    this.stage.redraw();
    this.changed("tool");
  }

  /** Whether a stroke may begin; says why not. */
  beginStroke() {
    this.pause();
    const object = this.selectedObject();
    if (this.keeping) this.say("The cut-out is still on its way.");
    else if (!this.ready) this.say("The picture is still on its way.");
    else if (!object) this.say("Add an object first.");
    else if (this.hidden.has(object.id)) this.say(`${object.name} is hidden: show it first.`);
    else if (!this.stage.showMasks) this.say("All masks are hidden: show them first (V).");
    else return true;
    return false;
  }

  /** Saves the selected object's mask as it is drawn now. */
  keepMask() {
    const object = this.selectedObject();
    const { frame } = this;
    const runs = encodeRuns(this.stage.selectedMask());
    this.tellOfHidden();
    if (object.draft && runs.length < 2) return;
    this.begin(object);
    this.enqueue(() => this.put(frame, object, runs));
  }

  /** Says that something drawn met a hidden object, which keeps its pixels. */
  tellOfHidden() {
    if (this.stage.metHidden) this.say("Hidden objects keep their pixels: show an object to draw over it.");
    this.stage.metHidden = false;
  }

  /** Saves an object's mask, unless the object is gone by now: that would bring it back. */
  async put(frame, object, runs) {
    const { id, name, colour } = object;
    if (!this.objects().some((other) => other.id === id)) {
      this.say(`${name} was removed; what you have drawn is gone with it.`);
      return;
    }
    const answer = await this.save("PUT", `/frames/${frame}/masks/${id}`, { runs, name, colour });
    if (!answer) this.takeBack(object);
    else if (this.begun.includes(object)) object.version = answer.version;
  }

  /** Does edits one after the other; when the last is done, the server's masks are shown. */
  enqueue(work) {
    this.saving += 1;
    this.changed("saving");
    const done = this.queue.then(work);
    this.queue = done.catch(() => {}).then(() => {
      this.saving -= 1;
      this.masks.forget();
      if (!this.saving) this.showMasks();
      this.changed("saving");
    });
    return done;
  }

  /** Resolves to the runs of what hints cut out; to null where that fails. */
  async cutOut(frame, object, hints) {
    this.working += 1;
    this.changed("saving");
    const answer = await this.ask("POST", `/frames/${frame}/cutout?object=${object.id}`, hints);
    this.working -= 1;
    this.changed("saving");
    return answer && answer.runs;
  }

  /** Whether a cut-out holds anything; says so where not. */
  standsOut(runs) {
    if (runs && runs.length < 2) this.say("Nothing stood out there; try scribbles or the brush.");
    return runs !== null && runs.length > 1;
  }

  /**
   * Keeps what `cut` resolves to as a mask of the object in the frame that are chosen now, whatever is chosen by then.
   *
   * Until it is there, nothing is drawn: strokes beside a mask that is not seen would replace it.
   */
  keepCutOut(cut, adds = false) {
    const object = this.selectedObject();
    const { frame } = this;
    const mask = adds ? this.stage.selectedMask() : new Uint8Array(this.state.height * this.state.width);
    this.keeping += 1;
    this.begin(object);
    this.enqueue(async () => {
      const runs = await cut(frame, object);
      this.keeping -= 1;
      if (!this.standsOut(runs)) {
        this.takeBack(object);
        return;
      }
      const isShown = this.shown?.frame === frame;
      fillRuns(mask, runs, 1);
      if (isShown) mask.forEach((_, i) => { if (mask[i] && this.stage.meetsHidden(i)) mask[i] = 0; });
      if (isShown) this.stage.paintRuns(object.id, runs, !adds);
      this.tellOfHidden();
      await this.put(frame, object, encodeRuns(mask));
    });
  }

  /** Before an edit of masks: what was begun ends, and until they are there nothing is drawn, which would bring the old back. */
  awaitMasks() {
    this.tool.leave?.();
    this.shown = null;
    this.tellReady();
  }

  clearMasks(id) {
    const { frame } = this;
    if (this.held) return;
    if (this.shown?.frame !== frame) this.say("The masks are still on their way.");
    else if (Object.entries(this.shown.masks).some(([key, mask]) => mask.drawn && (id === undefined || Number(key) === id))) {
      this.awaitMasks();
      this.enqueue(() => this.ask("DELETE", `/frames/${frame}/masks${id === undefined ? "" : `?object=${id}`}`));
    } else this.say("There is no mask of yours to clear in this frame.");
  }

  /** Whatever is shown: the masks of the frame may not be there yet. */
  markAbsent() {
    const object = this.selectedObject();
    if (this.held) return;
    if (!object || object.draft) {
      this.say("Draw the object in another frame first.");
      return;
    }
    this.tool.leave?.();
    const { frame } = this;
    if (this.shown?.frame === frame) this.stage.clearSelected();
    this.enqueue(() => this.put(frame, object, [this.state.height * this.state.width]));
  }

  /** Takes masks over from picture files: one for this frame, several by their names. */
  addMaskFiles(files) {
    if (!files.length) return;
    this.awaitMasks();
    const { frame } = this;
    const object = this.selectedObject();
    const shown = object && { id: object.id, name: object.name, colour: object.colour };
    this.enqueue(async () => {
      try {
        const upload = await sendFiles(files);
        const { frames } = await call("POST", `${this.base}/masks`, { upload, frame, object: shown });
        this.say(frames.length === 1 ? `Masks loaded into frame ${frames[0]}` : `Masks loaded into ${frames.length} frames`);
      } catch (error) {
        this.say(error.message, "error");
      }
    });
  }

  /** Makes the tracked masks of this frame the person's own. */
  acceptMasks() {
    const { frame } = this;
    this.enqueue(() => this.ask("POST", `/frames/${frame}/accept`, {}));
  }

  undo() {
    if (this.tool.undo?.()) return;
    this.travel("undo");
  }

  redo() {
    this.travel("redo");
  }

  /** Undoes or redoes. The server says whether there is anything: edits before may not be answered yet. */
  travel(what) {
    if (this.held) return;
    this.awaitMasks();
    this.enqueue(async () => {
      const answer = await this.ask("POST", `/${what}`, {});
      if (!answer) return;
      const back = what === "undo" ? "Redo brings it back." : "";
      this.say(answer.edit === null ? `Nothing to ${what}.` : `${what === "undo" ? "Undone" : "Redone"}: ${EDITS[answer.edit]}. ${back}`.trim());
    });
  }
}
