// A picture of some size in an element: zoom and pan, pointers of all kinds.

const MOST_ZOOM = 24;
const ERASER = 5; // the other end of a pen, as a button

export class Viewport {
  constructor(size) {
    [this.height, this.width] = size;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "stage-canvas";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "Picture and masks");
    this.element = document.createElement("div");
    this.element.className = "stage";
    this.element.append(this.canvas);
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.tool = null;
    this.pointers = new Map();
    this.hover = null;
    this.penSeen = false;
    this.pen = undefined; // the pointer of a pen that is down
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
  }

  // -- zoom and pan

  ratio() {
    return window.devicePixelRatio || 1;
  }

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    this.sized = this.ratio();
    this.canvas.width = Math.round(clientWidth * this.ratio());
    this.canvas.height = Math.round(clientHeight * this.ratio());
    if (this.fitted) this.fit();
    else this.keepInside();
    this.draw();
  }

  fitScale() {
    const { clientWidth, clientHeight } = this.element;
    return Math.min((clientWidth - 24) / this.width, (clientHeight - 24) / this.height);
  }

  fit() {
    const { clientWidth, clientHeight } = this.element;
    const scale = Math.max(0.01, this.fitScale());
    this.view = { scale, x: (clientWidth - this.width * scale) / 2, y: (clientHeight - this.height * scale) / 2 };
    this.fitted = true;
    this.rescaled();
  }

  /** Zooms by a factor around a point of the element. */
  zoom(factor, at) {
    const { clientWidth, clientHeight } = this.element;
    const point = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const least = Math.min(1, this.fitScale());
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.view.scale * factor));
    const change = scale / this.view.scale;
    this.view = { scale, x: point.x - (point.x - this.view.x) * change, y: point.y - (point.y - this.view.y) * change };
    this.fitted = scale <= this.fitScale() * 1.001;
    if (this.fitted) this.fit();
    this.keepInside();
    this.rescaled();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.fitted = false;
    this.keepInside();
    this.redraw();
  }

  /** Some of the picture always stays in sight. */
  keepInside() {
    const { clientWidth, clientHeight } = this.element;
    const { scale } = this.view;
    const margin = 80;
    this.view.x = Math.min(clientWidth - margin, Math.max(margin - this.width * scale, this.view.x));
    this.view.y = Math.min(clientHeight - margin, Math.max(margin - this.height * scale, this.view.y));
  }

  toFrame(point) {
    return { x: (point.x - this.view.x) / this.view.scale, y: (point.y - this.view.y) / this.view.scale };
  }

  toScreen(point) {
    return { x: point.x * this.view.scale + this.view.x, y: point.y * this.view.scale + this.view.y };
  }

  // -- pointers

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.redraw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", (event) => this.tool?.double?.(this.toFrame(this.at(event))));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 18 : 1;
      if (event.shiftKey) this.pan(-(event.deltaX || event.deltaY) * unit, 0);
      else this.zoom(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002)), this.at(event));
    }, { passive: false });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    const touches = event.pointerType === "touch";
    if (touches && this.pen !== undefined) return; // the hand that draws lies on the picture
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    if (event.pointerType === "pen") {
      this.penSeen = true;
      this.pen = event.pointerId;
      this.release(); // a hand that lay there before
    }
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) {
      this.drop(); // a second finger: the first one's stroke was none
      this.pinch = this.pinchNow();
      return;
    }
    // With a pen at hand, fingers and the ball of the hand only move the picture.
    const pans = event.button === 1 || this.tool?.pans || (touches && this.penSeen);
    if (pans) {
      this.panning = event.pointerId;
      this.canvas.classList.add("grabbing");
    } else if ([0, 2, ERASER].includes(event.button)) {
      this.drawing = event.pointerId;
      this.tool?.down?.(this.toFrame(at), { erase: event.button !== 0 || event.altKey });
    }
  }

  move(event) {
    const at = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (event.pointerType === "touch" && !before) return;
    if (event.pointerType !== "touch") this.hover = this.toFrame(at);
    if (before) this.pointers.set(event.pointerId, at);
    if (this.pinch && this.pointers.size === 2) {
      const now = this.pinchNow();
      this.pan(now.x - this.pinch.x, now.y - this.pinch.y);
      this.zoom(now.distance / Math.max(1, this.pinch.distance), now);
      this.pinch = now;
    } else if (this.panning === event.pointerId && before) {
      this.pan(at.x - before.x, at.y - before.y);
    } else if (this.drawing === event.pointerId) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) this.tool?.move?.(this.toFrame(this.at(step)));
    } else {
      this.tool?.over?.(this.toFrame(at));
    }
    this.redraw();
  }

  up(event, cancelled = false) {
    const was = this.drawing === event.pointerId;
    this.pointers.delete(event.pointerId);
    if (this.pen === event.pointerId) this.pen = undefined;
    if (this.pointers.size < 2) this.pinch = null;
    if (this.panning === event.pointerId) this.stopPanning();
    if (!was) return;
    if (cancelled) {
      this.drop();
      return;
    }
    this.drawing = undefined;
    this.tool?.up?.(this.toFrame(this.at(event)));
  }

  stopPanning() {
    this.panning = undefined;
    this.canvas.classList.remove("grabbing");
  }

  /** Gives up what the pointers that are down are doing. */
  release() {
    this.drop();
    this.stopPanning();
    this.pinch = null;
    this.pointers.clear();
  }

  /** Gives up the stroke that is being drawn, and no corners or scribbles before it. */
  drop() {
    if (this.drawing === undefined) return;
    this.drawing = undefined; // first: masks are not shown again while somebody draws
    this.tool?.drop?.();
    this.redraw();
  }

  pinchNow() {
    const [a, b] = [...this.pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  get busy() {
    return this.drawing !== undefined || Boolean(this.tool?.busy);
  }
}
