// Stores the page for visits without a network. Bundles are not its concern: the package caches them by their hash.
const CACHE = "monograph-demo";
// The build puts the names of its files here, so that another build is another service worker.
const FILES = ["./"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});
self.addEventListener("activate", (event) => event.waitUntil(removeOthers().then(() => self.clients.claim())));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method === "GET" && url.origin === location.origin && !url.pathname.includes("/bundles/")) {
    event.respondWith(answer(request));
  }
});

/** Remove the files of earlier builds. */
async function removeOthers() {
  const cache = await caches.open(CACHE);
  const current = new Set(FILES.map((name) => new URL(name, location.href).href));
  const others = (await cache.keys()).filter(({ url }) => !current.has(url));
  await Promise.all(others.map((request) => cache.delete(request)));
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const cached = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
  // Names of built files have a hash; only the page itself may change.
  if (cached !== undefined && request.mode !== "navigate") {
    return cached;
  }
  try {
    return await fetch(request);
  } catch (error) {
    if (cached !== undefined) {
      return cached;
    }
    throw error;
  }
}
