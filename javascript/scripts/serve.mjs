// A server on loopback for checks: the files of a folder, and bundles under /bundles/NAME/.
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json" };
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** The content of a file, read once: a warm server answers from memory. */
function readOnce(contents, file) {
  const content = contents.get(file) ?? readFileSync(file);
  contents.set(file, content);
  return content;
}

/** Serve `folder`, and `bundles` by name; `isolated` pages may use threads. Returns the address, the requests, the bytes, and what stops it. */
export async function serve(folder, bundles, { isolated = false } = {}) {
  const requests = [];
  const contents = new Map();
  let bytes = 0;
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    requests.push(path);
    const [, first, name, ...rest] = path.split("/");
    const file = first === "bundles" ? join(bundles[name] ?? "", ...rest) : join(folder, normalize(path));
    try {
      const target = statSync(file).isDirectory() ? join(file, "index.html") : file;
      if (!statSync(target).isFile()) {
        throw new Error("neither a file nor a folder of a page");
      }
      const content = readOnce(contents, target);
      const type = TYPES[extname(target)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "Content-Length": content.length, ...(isolated ? ISOLATION : {}) });
      bytes += content.length;
      response.end(content);
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
  return { url: `http://127.0.0.1:${port}/`, requests, bytes: () => bytes, stop };
}
