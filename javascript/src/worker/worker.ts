/** The Worker that runs a model: it answers the calls of a page, which are in messages.ts. */

import type { Progress } from "../bundle/source.js";
import { firstLine, MonographError } from "../errors.js";
import type { ModelHost, RunControl } from "../inference/host.js";
import { openWebHost } from "./local.js";
import { type Calls, type Request, type Response, toSent } from "./messages.js";

// The types of a page and of a Worker exclude each other.
interface WorkerScope {
  postMessage(message: Response, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent<Request>) => void): void;
}

// A page cannot show more, and each message takes its time.
const MS_BETWEEN_PROGRESS = 50;

const scope = globalThis as unknown as WorkerScope;
const running = new Map<number, AbortController>();
let host: ModelHost | undefined;

function opened(): ModelHost {
  if (host === undefined) {
    throw new MonographError("the model is not open");
  }
  return host;
}

async function answer(request: Exclude<Request, { name: "abort" }>, control: RunControl): Promise<Calls[keyof Calls]["result"]> {
  switch (request.name) {
    case "open":
      host = await openWebHost(...request.arguments, control);
      return host.info;
    case "run":
      return opened().run(...request.arguments, control);
    case "runSparse":
      return opened().runSparse(...request.arguments, control);
    case "tokens":
      return opened().tokens(...request.arguments);
    case "verify":
      return opened().verify(control);
    case "close":
      await host?.close();
      return undefined;
  }
}

/** Report progress at intervals, and the end of each step. */
function sparingly(report: (progress: Progress) => void): (progress: Progress) => void {
  let last = -Infinity;
  return (progress) => {
    const now = performance.now();
    if (now - last >= MS_BETWEEN_PROGRESS || progress.done >= progress.total) {
      last = now;
      report(progress);
    }
  };
}

async function handle(request: Request): Promise<void> {
  const { id } = request;
  if (request.name === "abort") {
    running.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(id, controller);
  const onProgress = sparingly((progress) => scope.postMessage({ id, progress }, []));
  try {
    const result = await answer(request, { signal: controller.signal, onProgress });
    scope.postMessage({ id, result }, result instanceof Float32Array ? [result.buffer] : []);
  } catch (error) {
    scope.postMessage({ id, error: toSent(error) }, []);
  } finally {
    running.delete(id);
  }
}

scope.addEventListener("message", (event) => {
  handle(event.data).catch((error: unknown) => console.error(firstLine(error)));
});
