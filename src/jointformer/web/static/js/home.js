// The first screen: projects, and ways to begin one.

import { call, projectPage, projectPath, sendFiles } from "./api.js";
import { ago, bytes, confirmDialog, dropTarget, h, icon, iconButton, openDialog, toast } from "./dom.js";
import { lookButton } from "./theme.js";

const kinds = "video/*,.mp4,.mov,.m4v,.mkv,.webm,.avi,.mpg,.mpeg,.mts,.m2ts,.m2t,.ts,.gif,.wmv,.flv,.3gp,.ogv,.mxf,.dv,.vob,image/*,.tif,.tiff,.jp2";

const go = (project) => { location.hash = projectPage(project.id); };

/** Fetches the projects; resolves to a function that shows them in an element and returns how to leave them. */
export async function openHome() {
  const [server, projects] = await Promise.all([call("GET", "/api/server"), call("GET", "/api/projects")]);
  return (app) => showHome(app, server, projects);
}

function showHome(app, server, projects) {
  document.title = "JointFormer";
  const options = startOptions();
  const shelf = h("section", { class: "shelf", "aria-label": "Projects" });
  const page = h("main", { class: "home" },
    h("header", { class: "home-head" },
      h("img", { src: "/static/icon.svg", alt: "", width: 34, height: 34 }),
      h("div", {},
        h("h1", {}, "JointFormer"),
        h("p", { class: "quiet" }, "Draw an object once; it is followed through the video.")),
      h("span", { class: "spacer" }),
      lookButton()),
    h("section", { class: "begin" },
      beginCard("folder", "Open", "a video or a folder of pictures on this computer", () => browse(options)),
      uploadCard(server, options),
      beginCard("sparkle", "Try the demo", "a fish and a turtle, 40 frames", (card) => create(card, { demo: true, ...options.values() }))),
    options.element,
    shelf,
    h("footer", { class: "quiet" },
      `Version ${server.version} · model ${server.model.split(/[/\\]/).pop()} · everything stays on the computer that runs this tool`));
  app.replaceChildren(page);
  fillShelf(shelf, projects);
  const control = new AbortController();
  dropTarget(page, "Drop a video or pictures to upload", (files) => upload(files, server, options), control.signal,
    "open it by its path, or drop its pictures");
  return () => control.abort();
}

function startOptions() {
  const size = h("select", { id: "detail", title: "The shorter side of the picture that the network sees" },
    h("option", { value: "" }, "Standard"),
    h("option", { value: "240" }, "Fast (240 pixels)"),
    h("option", { value: "360" }, "Medium (360 pixels)"),
    h("option", { value: "480" }, "Fine (480 pixels)"),
    h("option", { value: "-1" }, "Every pixel of the video"));
  const soft = h("input", { type: "checkbox", id: "soft" });
  const element = h("details", { class: "start-options" },
    h("summary", {}, "Options for new projects"),
    h("label", {}, "Detail ", size, h("span", { class: "quiet" }, "Less detail is faster: half the side takes about a quarter of the time.")),
    h("label", {}, soft, " Keep soft edges", h("span", { class: "quiet" }, "Needs more disk; the exports of soft masks and smooth cut-outs use them.")));
  return { element, values: () => ({ size: size.value ? Number(size.value) : undefined, soft: soft.checked }) };
}

function beginCard(name, title, text, onclick) {
  const card = h("button", { type: "button", class: "begin-card", onclick: () => onclick(card) },
    icon(name), h("strong", {}, title), h("span", { class: "quiet" }, text));
  return card;
}

function uploadCard(server, options) {
  const input = h("input", { type: "file", accept: kinds, multiple: true, hidden: true, id: "upload-input",
    onchange: () => { upload([...input.files], server, options); input.value = ""; } });
  const card = beginCard("upload", "Upload", "a video or pictures; or drop them here", () => input.click());
  card.append(input);
  return card;
}

async function create(card, body) {
  card.disabled = true;
  card.classList.add("busy");
  try {
    go(await call("POST", "/api/projects", body));
  } catch (error) {
    toast(error.message, "error");
  } finally {
    card.disabled = false;
    card.classList.remove("busy");
  }
}

/** Why the server would refuse files when all are sent; undefined where it would not. */
function refusal(files, total, server) {
  const byPath = "Open it by its path instead.";
  if (total > server.upload) return `That is ${bytes(total)}; at most ${bytes(server.upload)} can be uploaded. ${byPath}`;
  if (files.length > server.files) return `These are ${files.length} files; at most ${server.files} can be uploaded. ${byPath}`;
  const are = (kinds) => (file) => kinds.some((suffix) => file.name.toLowerCase().replace(/[. ]+$/, "").endsWith(suffix));
  const [isVideo, isPicture] = [are(server.videos), are(server.pictures)];
  const other = files.find((file) => !isVideo(file) && !isPicture(file));
  if (other) return `${other.name} is neither a video nor a picture.`;
  const good = files.length === 1 ? isVideo(files[0]) : files.every(isPicture);
  return good ? undefined : "Choose one video, or two or more pictures.";
}

async function upload(files, server, options) {
  if (!files.length) return;
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const refused = refusal(files, total, server);
  if (refused) {
    toast(refused, "error");
    return;
  }
  const control = new AbortController();
  const bar = h("progress", { max: Math.max(1, total), value: 0, "aria-label": "Bytes sent" });
  const label = h("p", { class: "quiet" }, `0 of ${bytes(total)}`);
  const name = files.length === 1 ? files[0].name : `${files.length} pictures`;
  const dialog = openDialog(`Uploading ${name}`, [bar, label], { onclose: () => control.abort() });
  try {
    const id = await sendFiles(files, (sent) => {
      bar.value = sent;
      label.textContent = `${bytes(sent)} of ${bytes(total)}`;
    }, control.signal);
    label.textContent = "Reading the video …";
    const title = files.length === 1 ? files[0].name.replace(/\.[^.]*$/, "") : `${files.length} pictures`;
    const project = await call("POST", "/api/projects", { upload: id, name: title, ...options.values() });
    if (control.signal.aborted) {
      await call("DELETE", projectPath(project.id));
      throw new Error("The upload was cancelled.");
    }
    dialog.close();
    go(project);
  } catch (error) {
    dialog.close();
    toast(error.message, "error");
  }
}

function browse(options) {
  const path = h("input", { type: "text", class: "path", spellcheck: false, "aria-label": "Path of a video or folder", placeholder: "Path of a video or folder" });
  const list = h("ul", { class: "files" });
  const use = h("button", { type: "submit", class: "primary" }, "Open");
  const form = h("form", { class: "browse", onsubmit: (event) => { event.preventDefault(); open(path.value); } },
    h("div", { class: "path-row" }, path, use), list);
  const dialog = openDialog("Open a video or a folder of pictures", form, { wide: true });

  async function open(chosen) {
    use.disabled = true;
    try {
      const project = await call("POST", "/api/projects", { path: chosen, ...options.values() });
      dialog.close();
      go(project);
    } catch (error) {
      toast(error.message, "error");
    } finally {
      use.disabled = false;
    }
  }

  function row(name, title, detail, onclick) {
    return h("li", {}, h("button", { type: "button", onclick }, icon(name), h("span", {}, title), h("span", { class: "quiet" }, detail)));
  }

  let asked = 0;
  async function show(folder) {
    const turn = ++asked;
    const before = path.value;
    let found;
    try {
      // Not in the address, where names that are no UTF-8 cannot be written.
      found = folder ? await call("POST", "/api/files", { path: folder }) : await call("GET", "/api/files");
    } catch (error) {
      toast(error.message, "error");
      return;
    }
    if (turn !== asked) return; // another folder was chosen meanwhile
    // Else something was typed meanwhile, or is about to be.
    if (path.value === before && document.activeElement !== path) path.value = found.path;
    const rows = [];
    if (found.parent) rows.push(row("back", "Up", found.parent, () => show(found.parent)));
    for (const root of found.roots) if (root !== found.path && !found.parent) rows.push(row("folder", root, "", () => show(root)));
    if (found.pictures > 1) rows.push(row("pictures", `This folder: ${found.pictures} pictures`, "open as a video", () => open(found.path)));
    for (const entry of found.folders) rows.push(row("folder", entry.name, "", () => show(entry.path)));
    for (const entry of found.videos) rows.push(row("film", entry.name, bytes(entry.bytes), () => open(entry.path)));
    if (!rows.length) rows.push(h("li", { class: "quiet empty" }, "No videos or pictures here."));
    list.replaceChildren(...rows);
  }
  show(null);
}

function fillShelf(shelf, projects) {
  if (!projects.length) {
    shelf.replaceChildren(h("p", { class: "quiet empty" }, "No projects yet. What you begin is kept here, saved as you work."));
    return;
  }
  shelf.replaceChildren(h("h2", {}, "Projects"), h("div", { class: "cards" }, projects.map((project) => card(project))));
}

function card(project) {
  const none = h("div", { class: "thumb broken" }, icon("film"));
  const thumb = project.problem
    ? none
    : h("img", { class: "thumb", src: `${projectPath(project.id)}/thumbnail`, alt: "", loading: "lazy" });
  thumb.addEventListener("error", () => thumb.replaceWith(none));  // a session that Python kept and nobody has opened here
  const detail = project.problem ?? (project.tracking ? "is being tracked" : ago(project.opened));
  const element = h("article", { class: "card" },
    h("a", { href: projectPage(project.id), class: "card-link", title: project.name, "aria-label": `Open ${project.name} ${detail}` }, thumb,
      h("strong", {}, project.name), " ", h("span", { class: project.problem ? "problem" : "quiet" }, detail)),
    iconButton("trash", `Delete ${project.name}`, remove, { class: "card-delete" }));

  async function remove() {
    const now = await call("GET", "/api/projects").catch(() => []);
    const works = now.find((other) => other.id === project.id)?.tracking;
    const text = `${works ? "It is being tracked at this moment. " : ""}Its masks, its exports and an uploaded video are deleted for good. A video opened by its path stays where it is.`;
    if (!(await confirmDialog(`Delete “${project.name}”?`, text, "Delete"))) return;
    try {
      await call("DELETE", projectPath(project.id));
    } catch (error) {
      if (error.status !== 404) { // else somebody has deleted it before
        toast(error.message, "error");
        return;
      }
    }
    element.remove();
  }
  return element;
}
