// Answers for the page without a network, and with the headers that WebAssembly's threads need on any static host.
const CACHE = "tadisr-BUILD"; // build.mjs puts a hash in
const PAGE = [
  "./", "index.html", "style.css", "app.js", "worker.js", "tiling.js", "icon.svg", "ort.wasm.bundle.min.mjs",
  "example.png",
];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  const fresh = PAGE.map((name) => new Request(name, {cache: "reload"}));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("tadisr-") && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const address = new URL(event.request.url);
  if (address.protocol === "blob:" || event.request.method !== "GET") return;
  const ours = address.origin === self.location.origin;
  event.respondWith(ours ? answer(event) : Response.error()); // nothing from elsewhere
});

async function answer(event) {
  const cache = await caches.open(CACHE);
  let found = await cache.match(event.request, {ignoreSearch: true});
  if (!found) {
    found = await fetch(event.request);
    if (found.ok) event.waitUntil(cache.put(event.request, found.clone())); // the model and the runtime, at first use
  }
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const {status, statusText} = found;
  return found.type === "opaqueredirect" ? found : new Response(found.body, {status, statusText, headers});
}
