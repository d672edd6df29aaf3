// Writes dist/: the page, ONNX Runtime and the model, ready to be served by any static host.
import {createHash} from "node:crypto";
import {cpSync, mkdirSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {dirname, join} from "node:path";
import {fileURLToPath} from "node:url";
import {gzipSync} from "node:zlib";
import {withoutDefault} from "./graph.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const REPOSITORY = dirname(HERE);
const DIST = join(HERE, "dist");
const RUNTIME = join(HERE, "node_modules/onnxruntime-web/dist");
const LARGEST = 20e6; // bytes of all files together
const SCRIPT = "sw.js";
const GRAPH = "model_int8.onnx";

const COPIED = {
  "index.html": HERE, "style.css": HERE, "app.js": HERE, "worker.js": HERE, "tiling.js": HERE, "icon.svg": HERE,
  "ort.wasm.bundle.min.mjs": RUNTIME, "example.png": join(REPOSITORY, "demo"),
};
const COMPRESSED = {  // hosts seldom compress files of these kinds
  "ort-wasm-simd-threaded.wasm": RUNTIME,
  [GRAPH]: join(REPOSITORY, "tadisr/weights/tadisr-tiny/onnx"),
};

rmSync(DIST, {recursive: true, force: true});
mkdirSync(DIST);
for (const [name, folder] of Object.entries(COPIED)) cpSync(join(folder, name), join(DIST, name));
for (const [name, folder] of Object.entries(COMPRESSED)) {
  let bytes = readFileSync(join(folder, name));
  if (name === GRAPH) {
    const {model, fidelity} = withoutDefault(bytes);
    bytes = model;
    const page = readFileSync(join(DIST, "index.html"), "utf8");
    writeFileSync(join(DIST, "index.html"), page.replace("FIDELITY", fidelity.toFixed(2)));
  }
  writeFileSync(join(DIST, `${name}.gz`), gzipSync(bytes, {level: 9}));
}

// The service worker keeps one build apart from another by a hash over all of it.
const names = [...Object.keys(COPIED), ...Object.keys(COMPRESSED).map((name) => `${name}.gz`)];
const worker = readFileSync(join(HERE, SCRIPT), "utf8");
const hash = createHash("sha256").update(worker);
for (const name of names) hash.update(name).update(readFileSync(join(DIST, name)));
writeFileSync(join(DIST, SCRIPT), worker.replace("BUILD", hash.digest("hex").slice(0, 16)));

const total = [...names, SCRIPT].reduce((sum, name) => sum + readFileSync(join(DIST, name)).length, 0);
if (total >= LARGEST) {
  console.error(`web/dist has ${total} bytes, and less than ${LARGEST} are wanted.`);
  process.exit(1);
}
console.log(`The page: ${DIST} (${(total / 1e6).toFixed(1)} MB). Serve it with: python3 -m http.server -d ${DIST}`);
