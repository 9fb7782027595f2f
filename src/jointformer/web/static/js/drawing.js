// Objects, and strokes on their way to the server.

import { call, sendFiles } from "./api.js";
import { encodeRuns, fillRuns } from "./runs.js";
import { toolRows } from "./tools.js";
import { Viewing } from "./viewing.js";

const PALETTE = [[239, 71, 111], [17, 138, 240], [6, 200, 140], [255, 190, 40], [155, 93, 229], [0, 200, 220],
  [255, 127, 50], [140, 200, 60], [241, 91, 181], [90, 110, 255], [200, 140, 90], [120, 220, 200]];

/** A colour for an object when those are used up: hues a golden angle apart, in turn dark and light, hardly come again. */
function further(id) {
  const light = id % 2 ? 0.42 : 0.65;
  const reach = 0.8 * Math.min(light, 1 - light);
  return [0, 8, 4].map((turn) => {
    const at = (turn + (id * 137.508) / 30) % 12;
    return Math.round(255 * (light - reach * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  });
}

export class Drawing extends Viewing {
  // -- objects

  /** All objects, the one that is not drawn yet included. */
  objects() {
    return this.draft ? [...this.state.objects, this.draft] : this.state.objects;
  }

  slots() {
    return this.objects().map((object) => ({ ...object, visible: !this.hidden.has(object.id) }));
  }

  selectedObject() {
    return this.objects().find((object) => object.id === this.selected);
  }

  selectedColour() {
    return this.selectedObject()?.colour ?? [255, 255, 255];
  }

  selectSensibly() {
    if (!this.state.objects.length && !this.draft) this.draft = this.newObject();
    if (!this.selectedObject()) this.selected = this.objects()[0]?.id ?? null;
  }

  /** After objects have changed: what is being drawn belongs to the object `before`, and to no other. */
  selectAgain(before) {
    const gone = before && !this.selectedObject();
    if (gone && this.state.redo) {
      // An undo has taken its only mask away: what is drawn next is it again, and none of the others.
      this.draft = { ...before, draft: true };
    } else if (gone && this.stage.busy) {
      this.giveUp();
      this.say(`${before.name} was removed; what you were drawing is gone with it.`);
    }
    this.selectSensibly();
    if (gone) this.refreshSlots();
  }

  newObject() {
    const ids = this.state.objects.map((object) => object.id);
    let id = Math.max(0, ...ids) + 1;
    if (id > 254) for (id = 1; ids.includes(id);) id += 1; // masks of files may have any id; exported ones hold no larger
    const taken = this.state.objects.map((object) => String(object.colour));
    const colour = PALETTE.find((value) => !taken.includes(String(value))) ?? further(id);
    return { id, name: `object ${id}`, colour, draft: true };
  }

  toggleMasks() {
    this.stage.showMasks = !this.stage.showMasks;
    this.stage.redraw();
    this.changed("view");
  }

  addObject() {
    if (this.state.objects.length >= 254) {
      this.say("The page shows at most 254 objects.", "error");
      return;
    }
    if (!this.draft) this.draft = this.newObject();
    this.select(this.draft.id);
    if (this.toolName === "hand" || this.toolName === "eraser") this.setTool("brush");
  }

  select(id) {
    if (id !== this.selected && this.held) return;
    if (id !== this.selected) this.tool.leave?.();
    this.selected = id;
    this.refreshSlots();
    this.changed("objects");
  }

  toggleVisible(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.refreshSlots();
    this.changed("objects");
  }

  /** Slots change with objects; what is drawn and not saved yet keeps its place: other objects come after those known. */
  refreshSlots() {
    if (this.stage.busy || this.saving) {
      const now = this.slots();
      const known = this.stage.slots.map(({ id }) => id);
      this.stage.slots = [
        ...this.stage.slots.map((old) => now.find(({ id }) => id === old.id) ?? { ...old, visible: false }),
        ...now.filter(({ id }) => !known.includes(id)),
      ];
    } else if (this.shown?.frame === this.frame) {
      this.stage.setMasks(this.shown.masks, this.slots(), this.selected);
      return;
    }
    this.stage.select(this.selected);
  }

  /** Resolves to null where the server refuses it. */
  changeObject(id, change) {
    if (this.draft?.id !== id) return this.enqueue(() => this.save("PUT", `/objects/${id}`, change));
    Object.assign(this.draft, change);
    this.refreshSlots();
    this.changed("objects");
    return Promise.resolve({});
  }

  removeObject(id) {
    if (id === this.selected) this.giveUp();
    if (this.draft?.id === id) {
      this.draft = null;
      this.selectSensibly();
      this.refreshSlots();
      this.changed("objects");
    } else this.enqueue(() => this.ask("DELETE", `/objects/${id}`));
  }

  // -- drawing

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
    else if (this.pictured !== this.frame || this.shown?.frame !== this.frame) this.say("The picture is still on its way.");
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
    if (object.draft && runs.length < 2) return;
    this.enqueue(() => this.put(frame, object, runs));
  }

  /** Saves an object's mask, unless the object is gone by now: that would bring it back. */
  async put(frame, object, runs) {
    const { id, name, colour } = object;
    if (this.objects().some((other) => other.id === id)) await this.save("PUT", `/frames/${frame}/masks/${id}`, { runs, name, colour });
    else this.say(`${name} was removed; what you have drawn is gone with it.`);
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
    const query = object.draft ? "" : `?object=${object.id}`;
    this.working += 1;
    this.changed("saving");
    const answer = await this.ask("POST", `/frames/${frame}/cutout${query}`, hints);
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
    this.enqueue(async () => {
      const runs = await cut(frame, object);
      this.keeping -= 1;
      if (!this.standsOut(runs)) return;
      if (this.shown?.frame === frame) this.stage.paintRuns(object.id, runs, !adds);
      fillRuns(mask, runs, 1);
      await this.put(frame, object, encodeRuns(mask));
    });
  }

  clearMasks(id) {
    const { frame } = this;
    if (this.shown && Object.entries(this.shown.masks).some(([key, mask]) => mask.drawn && (id === undefined || Number(key) === id))) {
      this.enqueue(() => this.ask("DELETE", `/frames/${frame}/masks${id === undefined ? "" : `?object=${id}`}`));
    } else this.say("There is no mask of yours to clear in this frame.");
  }

  markAbsent() {
    const object = this.selectedObject();
    if (!object || object.draft) {
      this.say("Draw the object in another frame first.");
      return;
    }
    this.stage.clearSelected();
    this.keepMask();
  }

  /** Takes masks over from picture files: one for this frame, several by their names. */
  loadMasks(files) {
    if (!files.length) return;
    const { frame } = this;
    const object = this.selectedObject();
    const shown = object && { id: object.id, name: object.name, colour: object.colour };
    this.shown = null; // until the masks are there: strokes beside masks that are not seen would replace them
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
    this.enqueue(async () => {
      const answer = await this.ask("POST", `/${what}`, {});
      if (answer && answer.edit === null) this.say(`Nothing to ${what}.`);
    });
  }
}
