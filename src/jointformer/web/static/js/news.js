// What the parts of the page hear from each other, and asking the server.

import { call } from "./api.js";
import { toast } from "./dom.js";

export class News {
  listeners = new Map();
  refused = false; // whether what was to be saved last was not

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

  /** As `ask`, for what would be lost: a server that does not answer is asked again until it does. */
  async save(method, path, body) {
    for (;;) {
      try {
        const answer = (await call(method, this.base + path, body)) ?? {};
        this.refused = false;
        return answer;
      } catch (error) {
        if (error.status) {
          this.refused = true;
          this.say(error.message, "error");
          return null;
        }
      }
      await new Promise((go) => setTimeout(go, 1000));
    }
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
}
