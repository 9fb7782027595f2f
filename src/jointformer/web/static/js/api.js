// Talking to the server. Every failure is an Error whose message can be shown as it is.

async function answerOf(response) {
  if (response.ok) return response;
  let text = `the server answered ${response.status}`;
  try {
    text = (await response.json()).error ?? text;
  } catch {
    // no JSON: the status has to do
  }
  const error = new Error(text);
  error.status = response.status;
  throw error;
}

async function send(method, path, options) {
  let response;
  try {
    response = await fetch(path, { method, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is jointformer ui still running?");
  }
  return answerOf(response);
}

/** Sends JSON and resolves to the answer's JSON. */
export async function call(method, path, body) {
  const options = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await send(method, path, options)).json();
}

export async function fetchBlob(path, signal) {
  return (await send("GET", path, { signal })).blob();
}

export async function fetchBytes(path) {
  return new Uint8Array(await (await send("GET", path, {})).arrayBuffer());
}

/** Sends a file, telling how many of its bytes have gone. XMLHttpRequest, because fetch does not tell. */
function sendFile(path, file, onprogress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onprogress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.error ?? `the server answered ${request.status}`));
    });
    request.addEventListener("error", () => reject(new Error("The upload broke off: the server refused it or has gone.")));
    request.addEventListener("abort", () => reject(new Error("The upload was cancelled.")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** Sends files as one upload and resolves to its id; onprogress is told how many bytes of all have gone. */
export async function sendFiles(files, onprogress = () => {}, signal = undefined) {
  const { upload } = await call("POST", "/api/uploads", {});
  const path = `/api/uploads/${upload}`;
  let sent = 0;
  try {
    for (const file of files) {
      await sendFile(`${path}?name=${encodeURIComponent(file.name)}`, file, (now) => onprogress(sent + now), signal);
      sent += file.size;
    }
  } catch (error) {
    call("DELETE", path).catch(() => {}); // a server that cannot be reached deletes by itself what nobody goes on with
    throw error;
  }
  return upload;
}

export const projectPath = (id) => `/api/projects/${encodeURIComponent(id)}`;

// A project's address in the browser; ids are names of folders.
export const projectPage = (id) => `#/project/${encodeURIComponent(id)}`;
