// Loads the model and restores pictures, away from the page's own thread. Errors are told in one line.
import * as ort from "./ort.wasm.bundle.min.mjs";
import {runTiled} from "./tiling.js";

const MODEL = "model_int8.onnx.gz";
const RUNTIME = "ort-wasm-simd-threaded.wasm.gz";
const SIZES = {tile: 128, overlap: 16, scale: 4, least: 16}; // pixels of the small picture
const MOST_PIXELS = 4e6; // of the small picture: 64 million restored, held as bytes
const LONGEST = 4000; // pixels: four times as long still fits a canvas

class Plain extends Error {} // what is said to the user as it stands

let session = null;

/** A file that is gzip'd, or that the host has unpacked already, as bytes; `step(bytes that came, bytes to come)`. */
async function load(name, step) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Plain(`The page is incomplete: the server has no ${name}.`);
  step(0, Number(answer.headers.get("Content-Length")));
  const reader = answer.body.getReader();
  const parts = [];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    step(part.value.length, 0);
  }
  const blob = new Blob(parts);
  const start = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  if (start[0] !== 0x1f || start[1] !== 0x8b) return blob.arrayBuffer();
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function open() {
  let [bytes, all] = [0, 0];
  const step = (came, more) => postMessage({kind: "loading", bytes: bytes += came, all: all += more});
  const [wasm, model] = await Promise.all([load(RUNTIME, step), load(MODEL, step)]);
  const cores = navigator.hardwareConcurrency || 1;
  ort.env.wasm.wasmBinary = wasm;
  // More than one needs a page that is isolated, see sw.js. Above four, two threads mostly share a core.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, Math.max(cores >> 1, Math.min(cores, 4))) : 1;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(model, {executionProviders: ["wasm"], logSeverityLevel: 3});
}

async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {imageOrientation: "from-image"});
  } catch {
    throw new Plain(`${file.name || "This"} is not a picture that this browser can read: take a PNG, JPEG or WebP.`);
  }
  const {width, height} = bitmap;
  if (width * height > MOST_PIXELS || Math.max(width, height) > LONGEST) {
    bitmap.close();
    throw new Plain(
      `The picture is too large (${width} × ${height}): at most ${MOST_PIXELS / 1e6} megapixels and ${LONGEST} pixels ` +
      "a side can be restored here. Crop it, or make it smaller.",
    );
  }
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white"; // what is transparent is laid on white
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return {pixels: context.getImageData(0, 0, width, height).data, width, height};
}

async function restoreTile({data, width, height}, fidelity) {
  const inputs = {
    lr: new ort.Tensor("float32", data, [1, 3, height, width]), fidelity: new ort.Tensor("float32", [fidelity], []),
  };
  const {image, mask_logits} = await session.run(inputs);
  return {image: image.data, mask: mask_logits.data};
}

async function restore(file, fidelity) {
  const started = performance.now();
  const {pixels, width, height} = await decode(file);
  const gray = isGray(pixels);
  const size = [width * SIZES.scale, height * SIZES.scale];
  postMessage({kind: "opened", width, height});
  const [image, mask] = [new ImageData(...size), new ImageData(...size)];
  const paint = (band, stride, first, rows) => {
    const [start, count] = [4 * first * size[0], rows * size[0]];
    for (let i = 0; i < count; i++) {
      const to = start + 4 * i;
      const color = [band[i], band[i + stride], band[i + 2 * stride]].map((value) => 255 * value);
      if (gray) color.fill(0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]);
      const text = 255 / (1 + Math.exp(-band[i + 3 * stride]));
      for (let channel = 0; channel < 3; channel++) {
        image.data[to + channel] = color[channel]; // the array rounds and clips
        mask.data[to + channel] = text;
      }
      image.data[to + 3] = mask.data[to + 3] = 255;
    }
  };
  await runTiled(pixels, width, height, SIZES, (tile) => restoreTile(tile, fidelity), paint, (done, all) => {
    postMessage({kind: "tile", done, all, seconds: (performance.now() - started) / 1000});
  });
  const files = [];
  for (const made of [new ImageData(pixels, width, height), image, mask]) files.push(await png(made)); // one at a time
  postMessage({
    kind: "done", before: files[0], image: files[1], mask: files[2], width: size[0], height: size[1],
    seconds: (performance.now() - started) / 1000,
  });
}

function isGray(pixels) {
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}

function png(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({type: "image/png"});
}

/** Open the model when the first picture comes or before; once. */
let opening = null;
const opened = () => opening ??= open().then(() => postMessage({kind: "ready", threads: ort.env.wasm.numThreads}));

self.addEventListener("message", async ({data}) => {
  const {file, fidelity} = data;
  try {
    try {
      await opened();
    } catch (error) {
      opening = null; // so that a later picture tries again
      if (error instanceof Plain) throw error;
      if (error instanceof TypeError) throw new Plain("The model cannot be fetched: check the network, then try again.");
      throw new Plain(`This browser cannot run the model: ${line(error)}.`);
    }
    if (file) await restore(file, fidelity);
  } catch (error) {
    const message = error instanceof Plain ? error.message
      : error instanceof RangeError ? "There is not enough memory for this picture: crop it, or make it smaller."
      : `The picture could not be restored: ${line(error)}.`;
    postMessage({kind: "error", message, file: Boolean(file)});
  }
});

function line(error) {
  return String(error?.message ?? error).split("\n")[0].slice(0, 150);
}
