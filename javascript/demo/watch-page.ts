/** How long a page could not answer, measured by itself. */

export interface Watched {
  /** The longest of what the browser calls long tasks (over 50 ms), in milliseconds; 0 for none. */
  longestTask: number;
  /** The longest time between two timers of a few milliseconds. */
  longestGap: number;
}

/** Watch the page from now on; long tasks also from before. Timers stop at the signal. */
export function watchPage(signal?: AbortSignal): Watched {
  const watched: Watched = { longestTask: 0, longestGap: 0 };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      watched.longestTask = Math.max(watched.longestTask, duration);
    }
  }).observe({ type: "longtask", buffered: true });
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    watched.longestGap = Math.max(watched.longestGap, now - last);
    last = now;
  }, 4);
  signal?.addEventListener("abort", () => clearInterval(timer));
  return watched;
}
