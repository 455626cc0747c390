// A server on loopback for checks: the files of a folder, and bundles under /bundles/NAME/.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json" };
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** Serve `folder`, and `bundles` by name; `isolated` pages may use threads. Returns the address, the requests, and what stops it. */
export async function serve(folder, bundles, { isolated = false } = {}) {
  const requests = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    requests.push(path);
    const [, first, name, ...rest] = path.split("/");
    const file = first === "bundles" ? join(bundles[name] ?? "", ...rest) : join(folder, normalize(path));
    try {
      const target = statSync(file).isDirectory() ? join(file, "index.html") : file;
      const { size } = statSync(target);
      const type = TYPES[extname(target)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "Content-Length": size, ...(isolated ? ISOLATION : {}) });
      createReadStream(target).pipe(response);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  const stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${port}/`, requests, stop };
}
