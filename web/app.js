// The page: takes a picture, shows what worker.js does with it, and the result.
const find = (id) => document.getElementById(id);
const WAITED = "waited-for-service-worker"; // in sessionStorage: a page is opened anew once at most

let worker = null;
let latest = null; // the picture
let name = ""; // of the picture, without its extension
let busy = false;
let addresses = []; // of the blobs that are shown
let shown = {width: 0, height: 0}; // the restored picture, in pixels

function say(text) {
  find("status").textContent = text;
}

function fail(message) {
  busy = false;
  find("work").hidden = true;
  find("error").textContent = message;
}

/** A worker that has loaded the model or does so now. */
function start() {
  worker = new Worker("worker.js", {type: "module"});
  worker.addEventListener("message", ({data}) => HANDLERS[data.kind](data));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    worker = null;
    fail("The page could not start its worker: open the page anew, or take a newer browser.");
  });
  worker.postMessage({});
}

function restore(file) {
  if (!file) return;
  if (busy) worker?.terminate();
  if (busy || !worker) start();
  busy = true;
  latest = file;
  name = (file.name || "picture").replace(/\.[^.]*$/, "");
  find("error").textContent = "";
  find("result").hidden = true;
  find("work").hidden = false;
  find("doing").textContent = `Opening ${file.name || "the picture"}.`;
  find("bar").removeAttribute("value");
  say("Restoring the picture.");
  worker.postMessage({file, fidelity: find("fidelity").valueAsNumber});
}

function cancel() {
  worker.terminate(); // a tile cannot be interrupted
  latest = null;
  start();
  busy = false;
  find("work").hidden = true;
  say("Cancelled.");
  find("file").focus();
}

const HANDLERS = {
  loading({bytes, all}) {
    const of = all > bytes ? ` of ${megabytes(all)}` : "";
    const text = `Fetching the model, only the first time: ${megabytes(bytes)}${of} MB.`;
    find("ready").textContent = text;
    if (busy) {
      find("doing").textContent = text;
      if (all > 0) find("bar").value = Math.min(1, bytes / all);
    }
  },
  ready({threads}) {
    const offline = navigator.serviceWorker?.controller ? "The page works without a network from now on. " : "";
    find("ready").textContent = `${offline}It computes with ${threads === 1 ? "one thread" : `${threads} threads`}.`;
  },
  opened({width, height}) {
    find("doing").textContent = `Restoring ${width} × ${height} pixels.`;
    find("bar").value = 0;
  },
  tile({done, all, seconds}) {
    const left = Math.ceil((seconds / done) * (all - done));
    find("bar").value = done / all;
    const rest = done === all ? "Writing the files." : `About ${duration(left)} left.`;
    find("doing").textContent = `Part ${done} of ${all} is restored. ${rest}`;
    const quarter = Math.floor((4 * done) / all);
    if (done < all && quarter > Math.floor((4 * (done - 1)) / all)) say(`${25 * quarter} % restored.`);
  },
  done(result) {
    busy = false;
    for (const address of addresses) URL.revokeObjectURL(address);
    const [before, image, mask] = ["before", "image", "mask"].map((key) => URL.createObjectURL(result[key]));
    addresses = [before, image, mask];
    find("before").src = before;
    find("image").src = image;
    find("overlay").style.maskImage = `url(${mask})`;
    shown = result;
    for (const [id, address, ending] of [["save-image", image, "_restored.png"], ["save-mask", mask, "_mask.png"]]) {
      find(id).href = address;
      find(id).download = name + ending;
    }
    find("work").hidden = true;
    find("result").hidden = false;
    const title = `${result.width} × ${result.height} pixels, in ${duration(Math.max(1, Math.round(result.seconds)))}`;
    find("result-title").textContent = title;
    slide(50);
    fit();
    say(`Restored: ${title}.`);
    if (document.activeElement !== find("fidelity")) find("result-title").focus();
  },
  error({message, file}) {
    if (file || !busy) fail(message); // what a picture waits for fails again with the picture
  },
};

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const duration = (seconds) => {
  if (seconds >= 90) return `${Math.round(seconds / 60)} minutes`;
  return seconds === 1 ? "1 second" : `${seconds} seconds`;
};

function slide(percent) {
  find("slider").value = percent;
  find("picture").style.setProperty("--at", `${percent}%`);
  find("slider").setAttribute("aria-valuetext", `${percent} % as it was, ${100 - percent} % restored`);
}

function nameDial() {
  const sharp = Math.round(100 * find("fidelity").valueAsNumber);
  const names = {0: "as they were", 100: "as sharp as they come"};
  find("fidelity").setAttribute("aria-valuetext", names[sharp] ?? `${sharp} % sharp`);
}

function fit() {
  const full = find("full-size").checked;
  find("picture").classList.toggle("full", full);
  find("picture").style.width = `${shown.width / (full ? devicePixelRatio : 1)}px`;
  find("picture").style.aspectRatio = `${shown.width} / ${shown.height}`;
  find("stage").scrollLeft = (find("picture").offsetWidth - find("stage").clientWidth) / 2; // where the slider begins
}

function choosePictures() {
  find("file").addEventListener("change", (event) => {
    restore(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  find("example").addEventListener("click", async () => {
    const answer = await fetch("example.png").catch(() => null);
    if (!answer?.ok) return fail("The example could not be fetched: check the network, and try again.");
    restore(new File([await answer.blob()], "example.png"));
  });
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) restore(file);
    else if (!event.target.matches?.("input[type=text]")) fail("There is no picture in the clipboard.");
  });
  let depth = 0; // dragging enters and leaves what lies within, too
  const over = (change) => find("drop").classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (event.dataTransfer.files[0]) restore(event.dataTransfer.files[0]);
    else fail("What was dropped is no file: save the picture first, then drop it.");
  });
}

function chooseViews() {
  find("slider").addEventListener("input", (event) => slide(event.target.value));
  find("show-mask").addEventListener("change", (event) => { find("overlay").hidden = !event.target.checked; });
  find("full-size").addEventListener("change", fit);
  find("fidelity").addEventListener("input", nameDial);
  let waiting = 0; // keys move the dial step by step
  find("fidelity").addEventListener("change", () => {
    clearTimeout(waiting);
    if (latest) waiting = setTimeout(() => restore(latest), 400);
  });
  const drag = (event) => {
    if (!(event.buttons & 1) || find("full-size").checked) return; // at full size a finger moves the picture
    const {left, width} = find("picture").getBoundingClientRect();
    slide(Math.round(Math.min(100, Math.max(0, (100 * (event.clientX - left)) / width))));
  };
  find("picture").addEventListener("pointerdown", (event) => {
    find("picture").setPointerCapture(event.pointerId);
    drag(event);
  });
  find("picture").addEventListener("pointermove", drag);
  find("cancel").addEventListener("click", cancel);
}

/** Whether the page is about to be opened anew: by the service worker it has the headers that threads need. */
async function reopened() {
  if (!navigator.serviceWorker) return false; // http: from another machine: one thread, and no work without a network
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
  } catch {
    return false;
  }
  if (self.crossOriginIsolated || busy || sessionStorage.getItem(WAITED)) return false;
  sessionStorage.setItem(WAITED, "1");
  location.reload();
  return true;
}

choosePictures();
chooseViews();
nameDial();
if (["WebAssembly", "OffscreenCanvas", "DecompressionStream"].some((needed) => !(needed in self))) {
  fail("This browser is too old: the page needs WebAssembly, OffscreenCanvas and DecompressionStream.");
} else {
  reopened().then((again) => again || worker || start());
}
