// The column on the right: objects, this frame, tracking.

import { STATUS, isDoubtful } from "./status.js";
import { call } from "./api.js";
import { duration, h, icon, iconButton, press } from "./dom.js";

const hex = (rgb) => `#${rgb.map((channel) => channel.toString(16).padStart(2, "0")).join("")}`;
const fromHex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
/** A button's work but for the second click of a double one: by then the button may be another one's place. */
const single = (work) => (event) => event.detail < 2 && work();
const percent = (share) => `${Math.round(share * 100)} %`;

export function objectsPanel(editor) {
  const list = h("ul", { class: "objects" });
  const files = h("input", { type: "file", accept: ".png,.bmp,.tif,.tiff,.gif,.pgm,.ppm", multiple: true, hidden: true, id: "masks-input",
    onchange: () => { editor.addMaskFiles([...files.files]); files.value = ""; } });
  const load = h("button", { type: "button", class: "small", title: "Load masks from PNG files, which may be dropped on the page, too: one for this frame, several named after frames", onclick: () => files.click() }, icon("upload"), "Load");
  const add = h("button", { type: "button", class: "small", title: "Add an object (A)", onclick: () => editor.addObject() }, icon("plus"), "Add");
  const element = h("section", { class: "panel", "aria-label": "Objects" },
    h("header", {}, h("h2", {}, "Objects"), h("span", { class: "spacer" }), load, add, files),
    list);

  function row(object) {
    const colour = h("input", { type: "color", value: hex(object.colour), title: "Colour", "aria-label": `Colour of ${object.name}`,
      onchange: (event) => change(event.target, { colour: fromHex(event.target.value) }, hex(object.colour)) });
    const name = h("input", { type: "text", class: "name", value: object.name, title: object.name, maxLength: 100, spellcheck: false, "aria-label": "Name of the object",
      onfocus: () => editor.selected !== object.id && editor.select(object.id),
      onchange: (event) => {
        const text = event.target.value.trim();
        if (text) change(event.target, { name: text }, object.name);
        else event.target.value = object.name;
      } });
    async function change(input, values, before) {
      if (!(await editor.changeObject(object.id, values))) input.value = before; // it was refused
    }
    const hidden = editor.hidden.has(object.id);
    return h("li", { class: object.id === editor.selected ? "selected" : "", dataset: { id: object.id },
      onclick: (event) => !event.target.closest("button, input") && editor.select(object.id) },
      colour, h("div", { class: "object-text" }, name, h("span", { class: "quiet sure" })),
      iconButton(hidden ? "eyeOff" : "eye", `${hidden ? "Show" : "Hide"} ${object.name}`, () => editor.toggleVisible(object.id)),
      iconButton("trash", `Remove ${object.name} from the whole video`, () => editor.removeObject(object.id)));
  }

  let shown = null; // the chosen object that the list was last scrolled to
  function refresh() {
    const rows = [...list.children];
    const wanted = editor.objects();
    const same = rows.length === wanted.length && rows.every((element, index) => element.key === keyOf(wanted[index]));
    if (!same) {
      const again = held();
      list.replaceChildren(...wanted.map((object) => Object.assign(row(object), { key: keyOf(object) })));
      if (again) controls(list.querySelector(`li[data-id="${again.id}"]`))[again.place]?.focus();
    } else rows.forEach((element) => element.classList.toggle("selected", Number(element.dataset.id) === editor.selected));
    for (const element of list.children) element.querySelector(".sure").textContent = sureness(Number(element.dataset.id));
    if (shown !== editor.selected) list.querySelector(".selected")?.scrollIntoView({ block: "nearest" });
    shown = editor.selected;
  }

  const controls = (row) => [...(row?.querySelectorAll("input, button") ?? [])];

  /** Which control of which row has the focus: rows that change are made anew. */
  function held() {
    const row = document.activeElement?.closest?.(".objects li");
    return row && { id: row.dataset.id, place: controls(row).indexOf(document.activeElement) };
  }

  const keyOf = (object) => JSON.stringify([object.id, object.name, object.colour, editor.hidden.has(object.id), Boolean(object.draft)]);

  function sureness(id) {
    if (editor.draft?.id === id) return "not drawn yet";
    const mask = editor.shown?.frame === editor.frame ? editor.shown.masks[id] : null;
    if (!mask) return "not in this frame yet";
    const empty = mask.runs.length < 2;
    if (mask.drawn) return empty ? "absent here (yours)" : "your mask";
    return empty ? "not seen here" : `${percent(mask.confidence)} sure`;
  }

  editor.on("objects masks frame", refresh);
  return element;
}

export function framePanel(editor) {
  const title = h("h2", {}, "Frame");
  const badge = h("span", { class: "badge" });
  const accept = h("button", { type: "button", title: "Make the tracked masks of this frame your own", onclick: () => editor.acceptMasks() }, icon("check"), "Accept");
  const clear = h("button", { type: "button", title: "Take your masks of this frame back", onclick: () => editor.clearMasks() }, icon("trash"), "Clear");
  const absent = h("button", { type: "button", title: "The chosen object is not to be seen in this frame", onclick: () => editor.markAbsent() }, icon("eyeOff"), "Absent");
  const worst = h("button", { type: "button", class: "wide-button", title: "The frame where tracking is least sure (N)", onclick: () => editor.goToWorst() }, icon("target"), "Frame to fix next");
  const element = h("section", { class: "panel", "aria-label": "Frame" },
    h("header", {}, title, badge), h("div", { class: "buttons" }, accept, absent, clear), worst);

  function refresh() {
    title.textContent = `Frame ${editor.frame}`;
    const known = editor.shown?.frame === editor.frame ? editor.shown : null;
    const status = known?.status ?? editor.status[editor.frame];
    const sure = editor.confidence[editor.frame];
    const texts = {
      [STATUS.none]: ["nothing yet", "none"],
      [STATUS.annotated]: ["your masks", "mine"],
      [STATUS.tracked]: [sure === 255 ? "tracked" : `tracked, ${Math.round(sure / 2.54)} % sure`, sure < 152 ? "low" : sure < 203 ? "middle" : "high"],
      [STATUS.half]: ["tracked from one side", "middle"],
      [STATUS.stale]: ["out of date", "stale"],
      [STATUS.partial]: ["an object is not tracked here", "middle"],
      [STATUS.held]: ["could not be read", "low"],
    };
    const [text, kind] = texts[status];
    badge.textContent = text;
    badge.className = `badge ${kind}`;
    const masks = Object.values(known?.masks ?? {});
    accept.disabled = !masks.some((mask) => !mask.drawn);
    clear.disabled = !masks.some((mask) => mask.drawn);
    absent.disabled = !editor.selectedObject() || Boolean(editor.selectedObject().draft);
    worst.disabled = !editor.status.some((value, frame) => isDoubtful(value, editor.confidence[frame]));
  }

  editor.on("frame masks timeline objects", refresh);
  return element;
}

export function trackPanel(editor) {
  const directions = [["backward", "Back"], ["both", "Both"], ["forward", "Forward"]];
  const choices = directions.map(([name, text]) => h("button", { type: "button", dataset: { name }, title: text,
    onclick: () => { editor.direction = name; editor.changed("range"); } }, icon(name), text));
  const last = editor.state.frames - 1;
  const [from, to] = ["First frame", "Last frame"].map((label) => h("input", { type: "number", min: 0, max: last, "aria-label": label, title: `${label} to track` }));
  from.addEventListener("change", () => editor.setRange(Number(from.value) || 0, editor.range.end));
  to.addEventListener("change", () => editor.setRange(editor.range.start, to.value === "" ? last : Number(to.value)));
  const whole = h("button", { type: "button", class: "small", title: "The whole video (R)", onclick: () => editor.setRange(0, last) }, "All");
  const again = h("input", { type: "checkbox", onchange: () => { editor.again = again.checked; editor.changed("range"); } });
  const go = h("button", { type: "button", class: "primary wide-button", title: "Track (T)", onclick: single(() => editor.track()) }, icon("play"), h("span", {}, "Track"));
  const estimate = h("p", { class: "quiet estimate" });
  const setup = h("div", { class: "track-setup" },
    h("div", { class: "segments", role: "group", "aria-label": "Direction" }, choices),
    h("div", { class: "range-row" }, h("span", {}, "Frames"), from, h("span", {}, "to"), to, whole),
    h("label", { class: "check" }, again, "Also frames that are up to date"), go, estimate);

  const bar = h("progress", { max: 1, value: 0, "aria-label": "Steps of tracking" });
  const progress = h("p", { class: "progress-text" });
  const pace = h("p", { class: "quiet" });
  const follow = h("input", { type: "checkbox", onchange: () => editor.setFollow(follow.checked) });
  const stop = h("button", { type: "button", class: "danger wide-button", title: "Stop (T)", onclick: single(() => editor.stop()) }, icon("stop"), h("span", {}, "Stop"));
  const running = h("div", { class: "track-running", hidden: true }, bar, progress, pace,
    h("label", { class: "check" }, follow, "Show frames as they arrive"), stop);

  const failure = h("p", { class: "failure", hidden: true });
  const interruptedText = h("p", {});
  const interrupted = h("div", { class: "notice", hidden: true }, interruptedText,
    h("div", { class: "buttons" },
      h("button", { type: "button", class: "primary", onclick: () => editor.track(editor.state.interrupted) }, "Continue"),
      h("button", { type: "button", onclick: () => editor.ask("POST", "/dismiss", {}) }, "Leave it")));
  const element = h("section", { class: "panel", "aria-label": "Tracking" }, h("header", {}, h("h2", {}, "Tracking")), interrupted, failure, setup, running);

  function refreshRun() {
    const { tracking } = editor.state;
    const on = editor.tracking;
    running.hidden = !on;
    setup.hidden = on;
    interrupted.hidden = on || !editor.state.interrupted;
    interruptedText.textContent = "Tracking was cut off when the program ended. Nothing is lost: it goes on where it was.";
    const failed = !on && tracking.outcome?.kind === "failed";
    failure.hidden = !failed; // a message is soon gone, and perhaps nobody was there
    failure.textContent = failed ? tracking.outcome.text : "";
    if (!on) {
      askPlan();
      return;
    }
    bar.max = tracking.steps;
    bar.value = tracking.done;
    if (tracking.state === "starting") bar.removeAttribute("value");
    progress.textContent = tracking.state === "starting" ? "Getting ready …"
      : `${tracking.done} of ${tracking.steps} steps${tracking.state === "stopping" ? ", stopping …" : ""}`;
    const left = tracking.seconds === null || tracking.seconds === undefined ? null : `${duration(tracking.seconds)} left`;
    const each = tracking.pace ? `${tracking.pace < 1 ? tracking.pace.toFixed(2) : tracking.pace.toFixed(1)} s per frame` : null;
    pace.textContent = [left, each].filter(Boolean).join(" · ") || "The first step takes longest.";
    stop.disabled = tracking.state === "stopping";
    follow.checked = editor.follow;
  }

  function refreshRange() {
    for (const button of choices) {
      press(button, button.dataset.name === editor.direction);
    }
    from.value = editor.range.start;
    to.value = editor.range.end;
    whole.disabled = editor.range.start === 0 && editor.range.end === last;
    again.checked = editor.again;
    askPlan();
  }

  let timer = 0;
  let turn = 0;
  function askPlan() {
    clearTimeout(timer);
    timer = setTimeout(showPlan, 200);
  }

  async function showPlan() {
    if (editor.tracking || editor.control.signal.aborted) return;
    const mine = ++turn;
    if (!editor.state.annotated.length) {
      go.disabled = true;
      estimate.textContent = "Draw an object in any frame to begin.";
      return;
    }
    let text;
    let enabled = false;
    try {
      const plan = await call("POST", `${editor.base}/plan`, editor.wanted());
      enabled = plan.steps > 0;
      const time = plan.seconds === null ? "time not measured here yet"
        : plan.rough ? `perhaps ${duration(plan.seconds)}; the first steps will tell` : `about ${duration(plan.seconds)} on this computer`;
      text = enabled ? `${plan.steps} ${plan.steps === 1 ? "step" : "steps"}, ${time}`
        : plan.reason ?? "Everything in the range is up to date.";
    } catch (error) {
      text = error.message;
    }
    if (mine !== turn) return;
    go.disabled = !enabled;
    estimate.textContent = text;
  }

  editor.on("tracking state", refreshRun);
  editor.on("range", refreshRange);
  return element;
}
