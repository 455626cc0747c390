// Stores the page for visits without a network. Bundles are not its concern: the package caches them by their hash.
const CACHE = "monograph-demo";

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(storeAll());
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method === "GET" && url.origin === location.origin && !url.pathname.includes("/bundles/")) {
    event.respondWith(answer(request));
  }
});

async function storeAll() {
  const cache = await caches.open(CACHE);
  const names = await (await fetch("assets.json")).json();
  await cache.addAll(["./", ...names]);
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
