// The second screen: one project. Holds what is shown and tells the parts of the page when it changes.

import { call, fetchBytes, projectPath } from "./api.js";
import { h, toast } from "./dom.js";
import { layOut } from "./layout.js";
import { listenToKeys } from "./keys.js";
import { Masks, Pictures } from "./media.js";
import { encodeRuns } from "./runs.js";
import { Stage } from "./stage.js";
import { toolRows } from "./tools.js";

export const STATUS = { none: 0, annotated: 1, tracked: 2, half: 3, stale: 4 };
const PALETTE = [[239, 71, 111], [17, 138, 240], [6, 200, 140], [255, 190, 40], [155, 93, 229], [0, 200, 220],
  [255, 127, 50], [140, 200, 60], [241, 91, 181], [90, 110, 255], [200, 140, 90], [120, 220, 200]];

export async function openEditor(app, id) {
  const base = projectPath(id);
  const state = await call("GET", base);
  const server = await call("GET", "/api/server");
  const editor = new Editor(id, base, state, server);
  app.replaceChildren(layOut(editor));
  editor.start();
  return () => editor.close();
}

export class Editor {
  constructor(id, base, state, server) {
    this.id = id;
    this.base = base;
    this.state = state;
    this.server = server;
    this.frame = state.frame;
    this.listeners = new Map();
    this.pictures = new Pictures(base, state.frames, state.height * state.width);
    this.masks = new Masks(base);
    this.stage = new Stage([state.height, state.width]);
    this.tools = Object.fromEntries(toolRows.map((row) => [row.name, row.make(this)]));
    this.toolName = "brush";
    this.brush = Math.max(4, Math.round(Math.min(state.height, state.width) / 16));
    this.scribbleInside = true;
    this.boxAdds = false;
    this.hidden = new Set();
    this.draft = null;
    this.selected = null;
    this.status = new Uint8Array(state.frames);
    this.confidence = new Uint8Array(state.frames).fill(255);
    this.range = { start: 0, end: state.frames - 1 };
    this.direction = "both";
    this.again = false;
    this.follow = true;
    this.playing = false;
    this.saving = 0;
    this.queue = Promise.resolve();
    this.visited = [];
    this.shown = null; // the masks of the frame shown: {frame, status, masks}
    this.connected = true;
    this.control = new AbortController();
  }

  // -- news for the parts of the page

  on(kinds, work) {
    for (const kind of kinds.split(" ")) {
      if (!this.listeners.has(kind)) this.listeners.set(kind, []);
      this.listeners.get(kind).push(work);
    }
  }

  changed(...kinds) {
    const works = new Set(kinds.flatMap((kind) => this.listeners.get(kind) ?? []));
    for (const work of works) work();
  }

  say(text, kind = "info") {
    toast(text, kind);
  }

  /** Sends a request; a failure is shown, and null is the answer. */
  async ask(method, path, body) {
    try {
      return (await call(method, this.base + path, body)) ?? {};
    } catch (error) {
      this.say(error.message, "error");
      return null;
    }
  }

  start() {
    document.title = `${this.state.name} – JointFormer`;
    this.selectSensibly();
    this.setTool("brush");
    this.listen();
    listenToKeys(this);
    const { signal } = this.control;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.source?.close() : this.listen()), { signal });
    addEventListener("pagehide", () => this.sendFrame(), { signal });
    document.addEventListener("look", () => { this.stage.redraw(); this.changed("timeline"); }, { signal });
    this.loadTimeline();
    this.go(this.frame);
    this.changed("state", "objects", "tracking", "range", "view");
  }

  close() {
    this.pause();
    this.sendFrame();
    this.source?.close();
    this.control.abort();
    this.stage.close();
  }

  /** Browsers open few connections to one server: pages in the background do without theirs. */
  listen() {
    this.source?.close();
    this.source = new EventSource(`${this.base}/events`);
    this.source.addEventListener("open", () => this.setConnected(true));
    this.source.addEventListener("error", () => this.setConnected(false));
    this.source.addEventListener("state", (event) => this.takeState(JSON.parse(event.data)));
    this.source.addEventListener("frame", (event) => this.takeFrame(JSON.parse(event.data)));
    this.source.addEventListener("tracking", (event) => this.takeTracking(JSON.parse(event.data)));
    this.source.addEventListener("exports", (event) => {
      this.state.exports = JSON.parse(event.data);
      this.changed("exports");
    });
    this.source.addEventListener("reload", () => this.listen());
  }

  setConnected(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.changed("connection");
  }

  takeState(state) {
    const before = this.state;
    this.state = state;
    document.title = `${state.name} – JointFormer`;
    if (this.draft && state.objects.some((object) => object.id === this.draft.id)) this.draft = null;
    this.selectSensibly();
    this.masks.forget();
    this.visited = before.version === state.version ? this.visited : [];
    this.loadTimeline();
    this.showMasks();
    this.changed("state", "objects", "tracking", "exports");
  }

  takeFrame(news) {
    this.status[news.frame] = news.status;
    this.confidence[news.frame] = news.confidence === null ? 255 : Math.round(news.confidence * 254);
    this.masks.forget(news.frame);
    this.state.tracking = news.tracking;
    this.changed("timeline", "tracking");
    if (this.follow && !this.playing && !this.stage.busy && !this.saving) this.go(news.frame, { following: true });
    else if (news.frame === this.frame) this.showMasks();
  }

  takeTracking(tracking) {
    const was = this.state.tracking;
    this.state.tracking = tracking;
    const { outcome } = tracking;
    if (was.state !== "idle" && tracking.state === "idle" && outcome) {
      this.say(outcome.kind === "finished" ? "Tracking is done." : outcome.text, outcome.kind === "failed" ? "error" : "info");
      this.loadTimeline();
    }
    if (was.state === "idle" && tracking.state !== "idle") this.follow = true;
    this.changed("tracking");
  }

  get tracking() {
    return this.state.tracking.state !== "idle";
  }

  async loadTimeline() {
    if (this.loadingTimeline) {
      this.timelineAgain = true;
      return;
    }
    this.loadingTimeline = true;
    try {
      const data = await fetchBytes(`${this.base}/timeline`);
      this.status = data.slice(0, this.state.frames);
      this.confidence = data.slice(this.state.frames);
      this.changed("timeline");
    } catch (error) {
      this.say(error.message, "error");
    }
    this.loadingTimeline = false;
    if (this.timelineAgain) {
      this.timelineAgain = false;
      this.loadTimeline();
    }
  }

  // -- which frame

  async go(frame, { following = false } = {}) {
    const last = this.state.frames - 1;
    frame = Math.min(last, Math.max(0, Math.round(frame)));
    if (frame !== this.frame) this.tool.leave?.();
    if (!following && this.tracking && frame !== this.frame) this.setFollow(false);
    const step = frame < this.frame ? -1 : 1;
    this.frame = frame;
    this.changed("frame");
    this.pictures.focus(frame);
    this.rememberFrame();
    try {
      const [picture] = await Promise.all([this.pictures.get(frame), this.showMasks()]);
      if (this.frame === frame) this.stage.setPicture(picture);
      this.pictures.prefetch(frame, step, this.playing ? 12 : 3);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, "error");
    }
  }

  /** Shows the masks of the frame as the server knows them; not while a person draws, unless `now`. */
  async showMasks(now = false) {
    const frame = this.frame;
    if (!now && (this.saving || (this.stage.busy && this.shown?.frame === frame))) return;
    let masks;
    try {
      masks = await this.masks.get(frame);
    } catch (error) {
      this.say(error.message, "error");
      return;
    }
    if (this.frame !== frame || (!now && (this.saving || this.stage.busy))) return;
    this.shown = masks;
    this.stage.setMasks(masks.masks, this.slots());
    this.stage.select(this.selected);
    this.changed("masks");
  }

  rememberFrame() {
    clearTimeout(this.frameTimer);
    this.frameTimer = setTimeout(() => this.sendFrame(), 1000);
  }

  /** Also while the page is being left, when only requests that outlive it arrive. */
  sendFrame() {
    if (!this.frameTimer) return;
    clearTimeout(this.frameTimer);
    this.frameTimer = 0;
    const body = JSON.stringify({ frame: this.frame });
    fetch(this.base, { method: "PATCH", body, keepalive: true, headers: { "Content-Type": "application/json" } }).catch(() => {});
  }

  setFollow(follow) {
    this.follow = follow;
    this.changed("tracking");
  }

  play() {
    if (this.playing) return;
    this.playing = true;
    if (this.frame === this.state.frames - 1) this.frame = 0;
    this.changed("playing");
    this.pictures.prefetch(this.frame, 1, 12);
    const begin = performance.now();
    const first = this.frame;
    let waited = 0;
    let before = begin;
    const tick = async (now) => {
      if (!this.playing) return;
      const due = first + Math.floor(((now - begin - waited) / 1000) * this.state.fps);
      const next = Math.min(due, this.frame + 1);
      if (next > this.frame) {
        if (next >= this.state.frames) {
          this.pause();
          return;
        }
        if (this.pictures.ready(next)) await this.go(next);
        else this.pictures.prefetch(this.frame, 1, 12);
      }
      // A picture that comes late delays the rest; none is left out.
      if (due > this.frame + 1) waited += performance.now() - before;
      before = performance.now();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.changed("playing");
  }

  togglePlay() {
    if (this.playing) this.pause();
    else this.play();
  }

  step(count) {
    this.pause();
    this.go(this.frame + count);
  }

  goToMark(direction) {
    const marks = this.state.annotated;
    const next = direction > 0 ? marks.find((frame) => frame > this.frame) : marks.findLast((frame) => frame < this.frame);
    if (next === undefined) this.say(direction > 0 ? "No annotated frame after this one." : "No annotated frame before this one.");
    else this.step(next - this.frame);
  }

  /** Jumps to the least certain tracked frame; when asked again, to the next least certain one elsewhere. */
  goToWorst() {
    const near = Math.max(3, Math.round(this.state.frames / 100));
    let worst = -1;
    for (let frame = 0; frame < this.state.frames; frame++) {
      const fresh = this.status[frame] === STATUS.tracked || this.status[frame] === STATUS.half;
      if (!fresh || this.confidence[frame] === 255 || this.visited.some((seen) => Math.abs(seen - frame) < near)) continue;
      if (worst < 0 || this.confidence[frame] < this.confidence[worst]) worst = frame;
    }
    if (worst < 0) {
      this.say(this.visited.length ? "You have seen the doubtful frames; beginning again." : "Nothing is tracked yet.");
      this.visited = [];
      return;
    }
    this.visited.push(worst);
    this.step(worst - this.frame);
    this.say(`Frame ${worst}: ${Math.round(this.confidence[worst] / 2.54)} % sure`);
  }

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

  newObject() {
    const id = Math.max(0, ...this.state.objects.map((object) => object.id)) + 1;
    const taken = this.state.objects.map((object) => String(object.colour));
    const colour = PALETTE.find((value) => !taken.includes(String(value))) ?? PALETTE[id % PALETTE.length];
    return { id, name: `object ${id}`, colour, draft: true };
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

  /** Slots change with objects; what is drawn and not saved yet keeps its place, because objects only come at the end. */
  refreshSlots() {
    if (this.stage.busy || this.saving) this.stage.slots = this.slots();
    else if (this.shown?.frame === this.frame) this.stage.setMasks(this.shown.masks, this.slots());
    this.stage.select(this.selected);
  }

  changeObject(id, change) {
    if (this.draft?.id === id) {
      Object.assign(this.draft, change);
      this.refreshSlots();
      this.changed("objects");
    } else this.enqueue(() => this.ask("PUT", `/objects/${id}`, change));
  }

  removeObject(id) {
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

  setTool(name) {
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
    if (this.shown?.frame !== this.frame) return false; // its masks are still on their way
    const object = this.selectedObject();
    if (!object) this.say("Add an object first.");
    else if (this.hidden.has(object.id)) this.say(`${object.name} is hidden: show it first.`);
    else return true;
    return false;
  }

  /** Saves the selected object's mask as it is drawn now. */
  keepMask() {
    const object = this.selectedObject();
    const frame = this.frame;
    const mask = this.stage.selectedMask();
    const body = { runs: encodeRuns(mask) };
    if (object.draft) {
      if (body.runs.length < 2) return Promise.resolve();
      Object.assign(body, { name: object.name, colour: object.colour });
    }
    return this.enqueue(() => this.ask("PUT", `/frames/${frame}/masks/${object.id}`, body));
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

  async cutOut(hints) {
    const { frame, selected } = this;
    const query = this.draft?.id === selected ? "" : `?object=${selected}`;
    this.working = true;
    this.changed("saving");
    const answer = await this.ask("POST", `/frames/${frame}/cutout${query}`, hints);
    this.working = false;
    this.changed("saving");
    // It is no use in another frame or for another object.
    if (!answer || this.frame !== frame || this.selected !== selected) return null;
    if (answer.runs.length > 1) return answer.runs;
    this.say("Nothing stood out there; try scribbles or the brush.");
    return null;
  }

  clearMasks(id) {
    if (this.shown && Object.entries(this.shown.masks).some(([key, mask]) => mask.drawn && (id === undefined || Number(key) === id))) {
      this.enqueue(() => this.ask("DELETE", `/frames/${this.frame}/masks${id === undefined ? "" : `?object=${id}`}`));
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

  /** Makes the tracked masks of this frame the person's own. */
  acceptMasks() {
    const { frame } = this;
    this.enqueue(() => this.ask("POST", `/frames/${frame}/accept`, {}));
  }

  undo() {
    if (this.tool.undo?.()) return;
    if (this.state.undo) this.enqueue(() => this.ask("POST", "/undo", {}));
    else this.say("Nothing to undo.");
  }

  redo() {
    if (this.state.redo) this.enqueue(() => this.ask("POST", "/redo", {}));
    else this.say("Nothing to redo.");
  }

  // -- tracking

  wanted() {
    const last = this.state.frames - 1;
    const start = this.range.start > 0 ? this.range.start : null;
    const end = this.range.end < last ? this.range.end : null;
    return { start, end, direction: this.direction, again: this.again };
  }

  setRange(start, end) {
    const last = this.state.frames - 1;
    start = Math.min(last, Math.max(0, start));
    end = Math.min(last, Math.max(0, end));
    this.range = start <= end ? { start, end } : { start: end, end: start };
    this.changed("range");
  }

  async track(wanted = this.wanted()) {
    if (this.tracking) return;
    this.tool.leave?.();
    this.pause();
    await this.queue;
    await this.ask("POST", "/track", wanted);
  }

  stop() {
    if (this.tracking) this.ask("POST", "/stop", {});
  }
}
