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
}
