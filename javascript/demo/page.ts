/** The elements of the page. */

export function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) {
    throw new Error(`the page has no ${id}`);
  }
  return found;
}

/** Run the latest of calls that come faster than they are answered, and leave out those between. */
export function latestOnly<T>(run: (value: T) => Promise<void>): (value: T) => void {
  let waiting: { value: T } | undefined;
  let isRunning = false;
  const next = async (): Promise<void> => {
    while (waiting !== undefined) {
      const { value } = waiting;
      waiting = undefined;
      await run(value);
    }
    isRunning = false;
  };
  return (value) => {
    waiting = { value };
    if (!isRunning) {
      isRunning = true;
      void next();
    }
  };
}
