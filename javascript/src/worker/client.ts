/** The page's side of a Worker that runs a model. */

import { MonographError } from "../errors.js";
import type { ModelHost, ModelInfo, RunControl, RunOptions, SparseRunOptions } from "../inference/host.js";
import type { SparseVector } from "../inference/sparse-rows.js";
import type { VerificationResult } from "../inference/verification.js";
import type { Input } from "../tokenizer/tokenizer.js";
import { type CallName, type Calls, fromSent, type Request, type Response, type Settings } from "./messages.js";

/** Open a bundle in a Worker. */
export async function openWorkerHost(
  worker: Worker,
  url: string,
  settings: Settings,
  control: RunControl,
): Promise<ModelHost> {
  const calls = new WorkerCalls(worker);
  try {
    return new WorkerHost(calls, await calls.call("open", [url, settings], control));
  } catch (error) {
    calls.terminate(new MonographError("the model was not opened"));
    throw error;
  }
}

interface Waiting {
  resolve(result: Calls[CallName]["result"]): void;
  reject(error: unknown): void;
  readonly onProgress: RunControl["onProgress"];
}

/** Sends calls to a Worker and waits for the answers. */
class WorkerCalls {
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;

  constructor(private readonly worker: Worker) {
    worker.addEventListener("message", (event: MessageEvent<Response>) => this.#receive(event.data));
    worker.addEventListener("error", (event) => {
      this.terminate(new MonographError(`the Worker of the model failed (${event.message || "it could not be loaded"})`));
    });
  }

  async call<N extends CallName>(
    name: N,
    values: Calls[N]["arguments"],
    { signal, onProgress }: RunControl = {},
  ): Promise<Calls[N]["result"]> {
    signal?.throwIfAborted();
    const id = ++this.#last;
    const abort = (): void => {
      this.#send({ id, name: "abort" });
      // At once: the Worker reads messages between two batches.
      this.#waiting.get(id)?.reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort);
    try {
      const result = await new Promise<Calls[CallName]["result"]>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject, onProgress });
        this.#send({ id, name, arguments: values } as Request);
      });
      return result as Calls[N]["result"];
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#waiting.delete(id);
    }
  }

  /** Stop the Worker; calls that wait for an answer fail. */
  terminate(reason: MonographError): void {
    this.worker.terminate();
    for (const { reject } of this.#waiting.values()) {
      reject(reason);
    }
    this.#waiting.clear();
  }

  #send(request: Request): void {
    this.worker.postMessage(request);
  }

  #receive(response: Response): void {
    const waiting = this.#waiting.get(response.id);
    if (waiting === undefined) {
      return;
    }
    if ("progress" in response) {
      waiting.onProgress?.(response.progress);
    } else if ("error" in response) {
      waiting.reject(fromSent(response.error));
    } else {
      waiting.resolve(response.result);
    }
  }
}

class WorkerHost implements ModelHost {
  constructor(
    private readonly calls: WorkerCalls,
    readonly info: ModelInfo,
  ) {}

  async run(inputs: readonly Input[], options: RunOptions, control: RunControl): Promise<Float32Array> {
    return this.calls.call("run", [inputs, options], control);
  }

  async runSparse(inputs: readonly Input[], options: SparseRunOptions, control: RunControl): Promise<SparseVector[]> {
    return this.calls.call("runSparse", [inputs, options], control);
  }

  async tokens(ids: readonly number[]): Promise<string[]> {
    return this.calls.call("tokens", [ids]);
  }

  async verify(control: RunControl): Promise<VerificationResult> {
    return this.calls.call("verify", [], control);
  }

  async close(): Promise<void> {
    await this.calls.call("close", []);
    this.calls.terminate(new MonographError("the model was closed"));
  }
}
