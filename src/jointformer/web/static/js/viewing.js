// Which frame is shown, with its masks; playing; jumping to marks and doubtful frames.

import { AHEAD } from "./media.js";
import { News } from "./news.js";
import { isDoubtful } from "./status.js";

export class Viewing extends News {
  get pictures() {
    return this.playing ? this.playedPictures : this.stillPictures;
  }

  async go(frame, { following = false } = {}) {
    const last = this.state.frames - 1;
    frame = Math.min(last, Math.max(0, Math.round(frame)));
    if (frame !== this.frame && this.held) return;
    if (frame !== this.frame) this.tool.leave?.();
    if (!following && this.tracking && frame !== this.frame) this.setFollow(false);
    const step = frame < this.frame ? -1 : 1;
    this.frame = frame;
    this.changed("frame");
    const pictures = this.pictures;
    pictures.focus(frame);
    this.rememberFrame();
    try {
      const both = Promise.all([pictures.get(frame), this.showMasks()]);
      this.tellReady();
      const [picture] = await both;
      // Who paused meanwhile is shown the frame in full, which may be there already.
      const late = pictures !== this.stillPictures && !this.playing;
      if (this.frame === frame && !late) this.showPicture(picture);
      this.prefetch(step);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (this.frame === frame) {
        this.stage.setPicture(null); // the one before is another frame's
        this.tellReady();
      }
      this.say(error.message, "error");
    }
  }

  showPicture(picture) {
    this.stage.setPicture(picture);
    this.pictured = this.frame;
    this.tellReady();
  }

  /** Whether picture and masks shown are those of the chosen frame: nothing is drawn into it before. */
  get ready() {
    return this.pictured === this.frame && this.shown?.frame === this.frame;
  }

  /** Tells those who do not see it whether they have to wait for that. */
  tellReady() {
    this.stage.canvas.ariaBusy = String(!this.ready && !this.pictures.failed.has(this.frame));
  }

  /** Shows the masks of the frame as the server knows them; not while a person draws, unless `now`. */
  async showMasks(now = false) {
    const frame = this.frame;
    if (!now && (this.saving || (this.stage.busy && this.shown?.frame === frame))) return;
    while (this.saving) {
      this.shown = null; // strokes on their way are in none yet: who draws beside them before would lose them
      this.tellReady();
      await this.queue;
    }
    let asked, masks;
    try {
      // What has been forgotten meanwhile is older than what is asked for by now, and may be shown already.
      do masks = await (asked = this.masks.get(frame));
      while (this.frame === frame && this.masks.get(frame) !== asked);
    } catch (error) {
      this.say(error.message, "error");
      return;
    }
    if (this.frame !== frame || this.saving || (!now && this.stage.busy)) return;
    this.shown = masks;
    this.tellReady();
    this.stage.setMasks(masks.masks, this.slots(), this.selected);
    this.changed("masks");
  }

  /** Fetches the next frames' pictures in one direction, and while playing their masks, too. */
  prefetch(step) {
    this.pictures.prefetch(this.frame, step, this.playing ? AHEAD : 3);
    if (this.playing) this.masks.prefetch(this.frame, 4, this.state.frames);
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
    this.pictures.failed.clear(); // the server may have been away
    this.stage.setMoving(true);
    if (this.frame === this.state.frames - 1) this.go(0);
    this.changed("playing");
    this.prefetch(1);
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
        if (this.pictures.failed.has(next)) {
          this.pause();
          this.go(next); // which tells why
          return;
        }
        if (this.pictures.ready(next)) await this.go(next);
        else this.prefetch(1);
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
    this.stage.setMoving(false);
    this.changed("playing");
    if (this.playedPictures !== this.stillPictures) this.sharpen();
  }

  /** Shows the frame in full, where it was played smaller. */
  async sharpen() {
    const frame = this.frame;
    this.playedPictures.focus();
    try {
      const picture = await this.stillPictures.get(frame);
      if (this.frame === frame && !this.playing) this.showPicture(picture);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error.message, "error");
    }
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
      if (!isDoubtful(this.status[frame], this.confidence[frame]) || this.visited.some((seen) => Math.abs(seen - frame) < near)) continue;
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
}
