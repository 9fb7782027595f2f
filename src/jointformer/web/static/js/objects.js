// The objects, and which of them is chosen.

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

export class Objects extends Viewing {
  draft = null; // the object that is not drawn yet
  begun = []; // objects whose first mask is on its way to the server

  /** All objects: those that the server has told, those whose first mask is on its way to it, the one not drawn yet. */
  objects() {
    return [...this.state.objects, ...this.begun, ...(this.draft ? [this.draft] : [])];
  }

  /** An object is one as soon as its first mask is sent: what is done to it, and to others, comes after that. */
  begin(object) {
    if (object !== this.draft) return;
    object.draft = false;
    this.begun.push(object);
    this.draft = null;
    this.changed("objects");
  }

  /** Its first mask is none after all. */
  takeBack(object) {
    if (!this.begun.includes(object) || object.version !== undefined) return;
    this.begun = this.begun.filter((other) => other !== object);
    if (!this.draft) {
      object.draft = true;
      this.draft = object;
    }
    this.selectSensibly();
    this.refreshSlots();
    this.changed("objects");
  }

  /** After the server has told its objects: none of them is a draft any more, and what it has taken and lost is gone. */
  settleObjects() {
    const known = new Set(this.state.objects.map(({ id }) => id));
    if (known.has(this.draft?.id)) this.draft = null;
    this.begun = this.begun.filter(({ id, version }) => !known.has(id) && !(version <= this.state.version));
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
    if (!this.objects().length) this.draft = this.newObject();
    if (!this.selectedObject()) this.selected = this.objects()[0]?.id ?? null;
  }

  /** After objects have changed: what is being drawn belongs to the object `before`, and to no other. */
  selectAgain(before) {
    const gone = before && !this.selectedObject();
    if (gone && this.state.redo) {
      // An undo has taken its only mask away: what is drawn next is it again, and none of the others.
      this.draft = { id: before.id, name: before.name, colour: before.colour, draft: true };
    } else if (gone && this.stage.busy) {
      this.giveUp();
      this.say(`${before.name} was removed; what you were drawing is gone with it.`);
    }
    this.selectSensibly();
    if (gone) this.refreshSlots();
  }

  newObject() {
    const ids = this.objects().map((object) => object.id);
    let id = Math.max(0, ...ids) + 1;
    if (id > 254) for (id = 1; ids.includes(id);) id += 1; // masks of files may have any id; exported ones hold no larger
    const taken = this.objects().map((object) => String(object.colour));
    const colour = PALETTE.find((value) => !taken.includes(String(value))) ?? further(id);
    return { id, name: `object ${id}`, colour, draft: true };
  }

  toggleMasks() {
    this.stage.showMasks = !this.stage.showMasks;
    this.stage.redraw();
    this.changed("view");
  }

  addObject() {
    if (this.held) return;
    if (this.draft?.id === this.selected) this.tool.keep?.(); // scribbles make it an object: the next one is another
    if (!this.draft && this.objects().length >= 254) {
      this.say("The page shows at most 254 objects.", "error");
      return;
    }
    this.draft ??= this.newObject();
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
    return this.edit(id, () => Object.assign(this.draft, change), () => this.save("PUT", `/objects/${id}`, change));
  }

  removeObject(id) {
    if (id === this.selected) this.giveUp();
    this.edit(id, () => { this.draft = null; }, () => this.ask("DELETE", `/objects/${id}`));
  }

  /** Edits an object: here if it is the draft, or is it again when its turn comes; else on the server. */
  edit(id, here, there) {
    const work = () => {
      if (this.draft?.id !== id) return there();
      here();
      this.selectSensibly();
      this.refreshSlots();
      this.changed("objects");
      return {};
    };
    return this.draft?.id === id ? Promise.resolve(work()) : this.enqueue(work);
  }
}
