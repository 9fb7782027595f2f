// Which screen is shown: the projects, or one project.

import { h, toast } from "./dom.js";
import { openEditor } from "./editor.js";
import { openHome } from "./home.js";
import { startLook } from "./theme.js";

let leave = null;
let turn = 0;

async function route() {
  const mine = ++turn;
  leave?.();
  leave = null;
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  const app = document.getElementById("app");
  const project = location.hash.match(/^#\/project\/([^/]+)$/)?.[1];
  try {
    const show = await (project ? openEditor(decodeURIComponent(project)) : openHome());
    if (mine === turn) leave = show(app); // else another screen was asked for meanwhile
  } catch (error) {
    if (mine !== turn) return;
    if (project) {
      toast(error.message, "error");
      location.hash = "#/";
    } else app.replaceChildren(unreachable(error.message)); // not the screen before, which hears of nothing any more
  }
}

function unreachable(text) {
  document.title = "JointFormer";
  return h("main", { class: "home" }, h("section", { class: "shelf" },
    h("div", { class: "empty", role: "alert" }, h("p", {}, text), h("button", { type: "button", onclick: route }, "Try again"))));
}

addEventListener("hashchange", route);
addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name !== "AbortError") toast(event.reason?.message ?? "Something went wrong.", "error");
});
startLook();
route();
