/** The similarity of each sentence to each, as a map of squares. */

const LABEL_SHARE = 0.42;
const MAX_CELL = 44;
const MIN_CELL = 14;
// Narrower ones have no room for a number.
const MIN_CELL_WITH_NUMBER = 28;

/** The color of a cell and of the number in it, by the similarity from 0 to 1. */
function colorsOf(strength: number, isDark: boolean): { readonly cell: string; readonly number: string } {
  const lightness = isDark ? 18 + 54 * strength : 94 - 58 * strength;
  return { cell: `hsl(209 75% ${lightness}%)`, number: lightness > 55 ? "#10151b" : "#ffffff" };
}

/** Draw similarities [n, n] of `sentences` into a canvas of the width that it has on the page. */
export function drawHeatMap(canvas: HTMLCanvasElement, sentences: readonly string[], values: readonly Float32Array[]): void {
  const width = canvas.clientWidth;
  const count = sentences.length;
  const labels = width * LABEL_SHARE;
  const cell = Math.max(MIN_CELL, Math.min(MAX_CELL, (width - labels) / Math.max(1, count)));
  const scale = globalThis.devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = Math.max(1, count) * cell * scale;
  canvas.style.height = `${canvas.height / scale}px`;
  const context = canvas.getContext("2d");
  if (context === null) {
    return;
  }
  const { color } = getComputedStyle(canvas);
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  context.scale(scale, scale);
  context.textBaseline = "middle";
  const fontOf = (pixels: number): string => `${pixels}px system-ui, sans-serif`;
  sentences.forEach((sentence, row) => {
    const middle = (row + 0.5) * cell;
    context.fillStyle = color;
    context.font = fontOf(13);
    context.fillText(fitted(context, sentence, labels - 12), 0, middle);
    values[row].forEach((value, column) => {
      const colors = colorsOf(Math.max(0, Math.min(1, value)), isDark);
      const left = labels + column * cell;
      context.fillStyle = colors.cell;
      context.fillRect(left + 1, row * cell + 1, cell - 2, cell - 2);
      if (cell >= MIN_CELL_WITH_NUMBER) {
        context.fillStyle = colors.number;
        context.font = fontOf(cell < MAX_CELL ? 11 : 13);
        context.textAlign = "center";
        context.fillText(value.toFixed(2), left + cell / 2, middle);
        context.textAlign = "left";
      }
    });
  });
}

/** A text that is cut where it would be too wide. */
function fitted(context: CanvasRenderingContext2D, text: string, width: number): string {
  let shown = text;
  while (shown.length > 1 && context.measureText(shown).width > width) {
    shown = `${shown.slice(0, -2).trimEnd()}…`;
  }
  return shown;
}
