/** The address of the demo that opens a served bundle; of random weights the page says that they are. */
export function demoPage(name, isRandom) {
  return `?bundle=${encodeURIComponent(`bundles/${name}/`)}${isRandom ? "&weights=random" : ""}`;
}
