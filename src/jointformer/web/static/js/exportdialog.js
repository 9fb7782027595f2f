// The dialog that writes the masks into the formats of other programs.

import { STATUS } from "./status.js";
import { ago, bytes, h, icon, iconButton, openDialog } from "./dom.js";

const titles = {
  overlay: "Overlay video", palette: "Label PNGs", binary: "Masks per object", soft: "Soft masks", coco: "COCO",
  "youtube-vis": "YouTube-VIS", burst: "BURST", yolo: "YOLO", rgba: "Cut-outs", prores: "ProRes with alpha", webm: "WebM with alpha", sheet: "Contact sheet",
};
const styles = { fill: "Filled", contour: "Outlines", spotlight: "Dark background", blur: "Blurred background" };
const order = Object.keys(titles);
const last = { format: "overlay" };

export function openExport(editor) {
  editor.tool.leave?.(); // scribbles are kept, as everywhere where people go on
  const formats = [...editor.server.formats].sort((a, b) => (order.indexOf(a.name) + 99) % 99 - (order.indexOf(b.name) + 99) % 99);
  const cards = formats.map((format) => h("label", { class: "format" },
    h("input", { type: "radio", name: "format", value: format.name, checked: format.name === last.format, onchange: refresh }),
    h("strong", {}, titles[format.name] ?? format.name, h("span", { class: "suffix" }, format.suffix)), h("span", { class: "quiet" }, format.text)));
  const style = h("select", {}, Object.entries(styles).map(([value, text]) => h("option", { value }, text)));
  const opacity = h("input", { type: "range", min: 0, max: 100, value: 50 });
  const [labels, sound, soft] = [false, true, false].map((checked) => h("input", { type: "checkbox", checked }));
  const pictures = h("input", { type: "number", min: 1, max: 400, value: 12 });
  const classes = h("input", { type: "text", value: last.classes ?? "", placeholder: "as they come", "aria-describedby": "classes-help" });
  const range = h("input", { type: "checkbox", onchange: refresh });
  const { start, end } = editor.range;
  const partial = start > 0 || end < editor.state.frames - 1;
  const rows = {
    style: h("label", {}, "Style", style), opacity: h("label", {}, "Opacity", opacity), labels: h("label", { class: "check" }, labels, "Write the objects' numbers"),
    sound: h("label", { class: "check" }, sound, "Keep the sound"), soft: h("label", { class: "check" }, soft, "Soft edges"), pictures: h("label", {}, "Pictures", pictures),
    classes: h("div", { class: "with-help" }, h("label", {}, "Classes", classes), h("p", { id: "classes-help", class: "quiet" }, "Names of objects in the order of their numbers, as cat, dog. Give every video the same to put the exports together.")),
  };
  if (!editor.state.soft) rows.soft = h("p", { class: "quiet" }, "");
  const hint = h("p", { class: "quiet" });
  const options = h("div", { class: "export-options" }, Object.values(rows), partial && h("label", { class: "check" }, range, `Only frames ${start} to ${end}`), hint);
  const write = h("button", { type: "submit", class: "primary" }, icon("download"), h("span", {}, "Export"));
  const stop = h("button", { type: "button", class: "danger", onclick: () => editor.ask("DELETE", `/exports/${editor.state.exports.running}`) }, icon("stop"), h("span", {}, "Stop"));
  const files = h("div", { class: "export-files" });
  const form = h("form", { class: "export", onsubmit: begin },
    h("div", { class: "formats", role: "radiogroup", "aria-label": "Format" }, cards), h("div", { class: "export-side" }, options, write, stop, files));
  openDialog("Export", form, { wide: true, onclose: () => { open = false; } });
  let open = true;

  function chosen() {
    return formats.find((format) => format.name === form.querySelector("input[name=format]:checked")?.value) ?? formats[0];
  }

  function refresh() {
    const format = chosen();
    last.format = format.name;
    for (const [name, row] of Object.entries(rows)) row.hidden = !format.options.includes(name);
    const [low, high] = partial && range.checked ? [start, end] : [0, editor.state.frames - 1];
    const count = high - low + 1;
    const softless = format.name === "soft" && !editor.state.soft;
    hint.textContent = softless ? "This project keeps no soft edges. Choose “Keep soft edges” under the options when you begin a project."
      : lacking(editor.status.slice(low, high + 1), count, format.missing);
    write.disabled = softless || Boolean(editor.state.exports.running);
  }

  /** What somebody should know of masks before exporting them. */
  function lacking(statuses, count, missing) {
    const number = (wanted) => statuses.filter((status) => status === wanted).length;
    const told = [
      [STATUS.none, `have no masks yet: they are ${missing}`],
      [STATUS.stale, "are out of date: track them first"],
      [STATUS.partial, "lack an object that you drew in an earlier frame: track it first"],
      [STATUS.held, "could not be read and have the masks of the frame beside them"],
    ];
    const lines = told.filter(([status]) => number(status)).map(([status, text]) => `${number(status)} of ${count} frames ${text}.`);
    return [editor.tracking ? "Tracking is not done yet." : "", ...lines].filter(Boolean).join(" ");
  }

  async function begin(event) {
    event.preventDefault();
    const format = chosen();
    const values = { style: style.value, opacity: Number(opacity.value) / 100, labels: labels.checked, sound: sound.checked, soft: editor.state.soft && soft.checked, pictures: Number(pictures.value) };
    last.classes = classes.value;
    if (classes.value.trim()) values.classes = classes.value.split(",").map((name) => name.trim());
    const given = Object.fromEntries(Object.entries(values).filter(([name]) => format.options.includes(name)));
    if (partial && range.checked) Object.assign(given, { start, end });
    write.disabled = true;
    await editor.queue;
    await editor.ask("POST", "/exports", { format: format.name, options: given });
    refresh();
  }

  function showFiles() {
    const { files: done, running, failure, done: written, total } = editor.state.exports;
    const held = heldPlace();
    const entries = done.map((file) => h("li", { dataset: { name: file.name } },
      h("a", { href: `${editor.base}/exports/${file.name}`, download: file.name, class: "file-link" }, icon("download"), h("span", {}, file.name)),
      h("span", { class: "quiet" }, `${bytes(file.bytes)}, ${ago(file.created)}`),
      iconButton("trash", `Delete ${file.name}`, () => editor.ask("DELETE", `/exports/${file.name}`))));
    files.replaceChildren(
      running ? h("p", { class: "running" }, h("span", { class: "spinner" }), `Writing ${running} …`) : "",
      running && total ? h("progress", { max: total, value: written, "aria-label": "Frames written" }) : "",
      running && total ? h("p", { class: "quiet" }, `${written} of ${total} frames`) : "",
      failure ? h("p", { class: "failure" }, failure) : "",
      done.length ? h("h3", {}, "Finished") : "", h("ul", {}, entries));
    if (!held) return;
    const row = entries.find((entry) => entry.dataset.name === held.name) ?? entries[Math.min(held.row, entries.length - 1)];
    (row?.children[held.place] ?? write).focus();
  }

  /** Which control of which file has the focus: the list is made anew with all news. */
  function heldPlace() {
    const row = files.contains(document.activeElement) && document.activeElement.closest("li");
    return row && { name: row.dataset.name, row: [...row.parentElement.children].indexOf(row), place: [...row.children].indexOf(document.activeElement) };
  }

  function update() {
    if (!open) return;
    showFiles();
    refresh();
    const left = document.activeElement === stop;
    stop.hidden = !editor.state.exports.running;
    if (left && stop.hidden) write.focus();
  }

  editor.on("exports", update);
  update();
}
