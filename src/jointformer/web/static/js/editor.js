// The second screen: one project. Holds what is shown and tells the parts of the page when it changes.

import { call, fetchBytes, projectPath } from "./api.js";
import { Drawing } from "./drawing.js";
import { layOut } from "./layout.js";
import { listenToKeys } from "./keys.js";
import { Masks, picturesOf } from "./media.js";
import { Stage } from "./stage.js";
import { toolRows } from "./tools.js";

/** Fetches what the editor begins with; resolves to a function that shows it in an element and returns how to leave it. */
export async function openEditor(id) {
  const base = projectPath(id);
  const [state, server] = await Promise.all([call("GET", base), call("GET", "/api/server")]);
  return (app) => {
    const editor = new Editor(id, base, state, server);
    app.replaceChildren(layOut(editor));
    editor.start();
    return () => editor.close();
  };
}

class Editor extends Drawing {
  constructor(id, base, state, server) {
    super();
    this.id = id;
    this.base = base;
    this.state = state;
    this.server = server;
    this.frame = state.frame;
    [this.stillPictures, this.playedPictures] = picturesOf(base, state);
    this.masks = new Masks(base);
    this.stage = new Stage([state.height, state.width]);
    this.tools = Object.fromEntries(toolRows.map((row) => [row.name, row.make(this)]));
    this.toolName = "brush";
    this.brush = Math.max(4, Math.round(Math.min(state.height, state.width) / 16));
    this.scribbleInside = true;
    this.boxAdds = false;
    this.hidden = new Set();
    this.selected = null;
    this.status = new Uint8Array(state.frames);
    this.confidence = new Uint8Array(state.frames).fill(255);
    this.range = { start: 0, end: state.frames - 1 };
    this.direction = "both";
    this.again = false;
    this.follow = true;
    this.playing = false;
    this.saving = 0; // edits on their way to the server
    this.working = 0; // cut-outs that the server is asked for
    this.keeping = 0; // those to come that become a mask by themselves
    this.queue = Promise.resolve();
    this.visited = [];
    this.shown = null; // the masks of the frame shown: {frame, status, masks}
    this.pictured = null; // the frame whose picture is shown
    this.connected = true;
    this.control = new AbortController();
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
    addEventListener("beforeunload", (event) => (this.saving || this.tool.busy) && event.preventDefault(), { signal });
    document.addEventListener("look", () => { this.stage.redraw(); this.changed("timeline"); }, { signal });
    this.loadTimeline();
    this.go(this.frame);
    this.changed("state", "objects", "tracking", "range", "view");
    const { now, before } = this.state.model;
    if (before && before !== now) this.say(`This project was tracked with ${before} so far, and this tool with ${now} goes on.`);
  }

  close() {
    this.tool.leave?.();
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
    this.source.addEventListener("error", () => this.lose(this.source));
    this.source.addEventListener("state", (event) => this.takeState(JSON.parse(event.data)));
    this.source.addEventListener("frame", (event) => this.takeFrame(JSON.parse(event.data)));
    this.source.addEventListener("tracking", (event) => this.takeTracking(JSON.parse(event.data)));
    this.source.addEventListener("exports", (event) => {
      this.state.exports = JSON.parse(event.data);
      this.changed("exports");
    });
    this.source.addEventListener("reload", () => this.listen());
  }

  /** The browser listens again by itself, unless the server has answered that there is nothing to hear. */
  async lose(source) {
    this.setConnected(false);
    if (source.readyState !== EventSource.CLOSED) return;
    try {
      await call("GET", this.base);
    } catch (error) {
      if (this.control.signal.aborted) return;
      if (error.status === 404) {
        this.say("This project has been deleted.", "error");
        location.hash = "#/";
        return;
      }
      if (error.status) location.reload(); // which tells why, or asks for the token of a server that was started anew
    }
    setTimeout(() => source === this.source && !this.control.signal.aborted && this.listen(), 3000);
  }

  setConnected(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.changed("connection");
  }

  takeState(state) {
    const before = this.state;
    if (state.pictures !== before.pictures) location.reload(); // another video, under the same name
    const selected = this.selectedObject();
    this.state = state;
    document.title = `${state.name} – JointFormer`;
    this.settleObjects();
    this.masks.forget();
    this.selectAgain(selected);
    this.visited = before.version === state.version ? this.visited : [];
    this.tellOutcome(before.tracking);
    this.loadTimeline();
    if (this.pictured === this.frame) this.showMasks();
    else this.go(this.frame); // perhaps chosen while the server was away
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
    if (this.tellOutcome(was)) this.loadTimeline();
    if (was.state === "idle" && tracking.state !== "idle") this.follow = true;
    this.changed("tracking");
  }

  /** Whether a run has ended since tracking `was` so; says how. */
  tellOutcome(was) {
    const { state, outcome } = this.state.tracking;
    if (was.state === "idle" || state !== "idle" || !outcome) return false;
    const whole = outcome.kind === "finished" && !outcome.held;
    this.say(whole ? "Tracking is done." : outcome.text, outcome.kind === "failed" || outcome.held ? "error" : "info");
    if (outcome.kind === "finished") this.again = false;  // the next run is for what is corrected
    return true;
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

  // -- tracking

  wanted() {
    const last = this.state.frames - 1;
    const start = this.range.start > 0 ? this.range.start : null;
    const end = this.range.end < last ? this.range.end : null;
    return { start, end, direction: this.direction, again: this.again };
  }

  setRange(start, end) {
    const last = this.state.frames - 1;
    start = Math.min(last, Math.max(0, Math.round(start)));
    end = Math.min(last, Math.max(0, Math.round(end)));
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
