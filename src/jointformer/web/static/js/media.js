// A project's pictures and masks, fetched when needed and kept for a while.

import { call, fetchBlob } from "./api.js";

const MOST_PICTURES = 64;
/** While the video plays, pictures are fetched no higher than this. */
const PLAYED_HEIGHT = 1080;
const PICTURE_BYTES = 512 * 2 ** 20;
const KEPT_MASKS = 256;
/** Frames that are fetched ahead while the video plays; those nearer than that are never given up. */
export const AHEAD = 12;

class Kept {
  constructor(most, drop) {
    this.most = most;
    this.drop = drop;
    this.map = new Map();
  }

  get(key) {
    const value = this.map.get(key);
    if (value !== undefined) {
      this.map.delete(key);
      this.map.set(key, value);
    }
    return value;
  }

  set(key, value) {
    this.map.set(key, value);
    while (this.map.size > this.most) {
      const [oldest, gone] = this.map.entries().next().value;
      this.map.delete(oldest);
      this.drop?.(gone);
    }
  }
}

/** [pictures to look at, pictures to play] of a project; large ones are played smaller. */
export function picturesOf(project, { pictures, frames, height, width }) {
  const base = `${project}/pictures/${pictures}`; // browsers keep what is there
  if (height <= PLAYED_HEIGHT) {
    const both = new Pictures(base, frames, height * width);
    return [both, both];
  }
  const bytes = PICTURE_BYTES / 2;
  const smaller = (PLAYED_HEIGHT ** 2 * width) / height;
  return [
    new Pictures(base, frames, height * width, { bytes }),
    new Pictures(base, frames, smaller, { query: `?height=${PLAYED_HEIGHT}`, bytes }),
  ];
}

/** Frames as ImageBitmaps. Scrubbing asks for many: those nobody waits for any more are given up. */
export class Pictures {
  constructor(base, count, pixels, { query = "", bytes = PICTURE_BYTES } = {}) {
    this.base = base;
    this.count = count;
    this.query = query;
    const most = Math.max(8, Math.min(MOST_PICTURES, Math.floor(bytes / (4 * pixels))));
    this.ahead = Math.floor(most / 4);
    this.kept = new Kept(most, (entry) => entry.control.abort());
    this.failed = new Set(); // frames that cannot be had; they are not fetched ahead, only when somebody asks again
  }

  get(frame) {
    const known = this.kept.get(frame);
    if (known) return known.promise;
    this.failed.delete(frame);
    const control = new AbortController();
    const promise = fetchBlob(`${this.base}/frames/${frame}${this.query}`, control.signal).then((blob) => createImageBitmap(blob));
    const entry = { promise, control, ready: false };
    promise.then(() => { entry.ready = true; }, (error) => {
      if (this.kept.map.get(frame) === entry) this.kept.map.delete(frame);
      if (error.name !== "AbortError") this.failed.add(frame);
    });
    this.kept.set(frame, entry);
    return promise;
  }

  ready(frame) {
    return this.kept.map.get(frame)?.ready ?? false;
  }

  /** Fetches neighbours in advance. */
  prefetch(frame, step, count) {
    for (let i = 1; i <= Math.min(count, this.ahead); i++) {
      const next = frame + i * step;
      if (next >= 0 && next < this.count && !this.failed.has(next)) this.get(next).catch(() => {});
    }
  }

  /** Gives up what is on its way but for frames near this one, all without one. */
  focus(frame = -Infinity) {
    for (const [key, entry] of this.kept.map) {
      if (!entry.ready && Math.abs(key - frame) > AHEAD) {
        this.kept.map.delete(key);
        entry.control.abort();
      }
    }
  }
}

/** Frames' masks as the server tells them: {status, masks: {id: {runs, confidence, drawn}}}. */
export class Masks {
  constructor(base) {
    this.base = base;
    this.kept = new Kept(KEPT_MASKS);
  }

  get(frame) {
    let promise = this.kept.get(frame);
    if (!promise) {
      promise = call("GET", `${this.base}/frames/${frame}/masks`);
      promise.catch(() => { if (this.kept.map.get(frame) === promise) this.kept.map.delete(frame); });
      this.kept.set(frame, promise);
    }
    return promise;
  }

  /** Fetches those of the frames to come. */
  prefetch(frame, count, frames) {
    for (let next = frame + 1; next <= Math.min(frame + count, frames - 1); next++) this.get(next).catch(() => {});
  }

  forget(frame) {
    if (frame === undefined) this.kept.map.clear();
    else this.kept.map.delete(frame);
  }
}
