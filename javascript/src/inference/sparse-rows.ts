/** Sparse vectors: the values of a vector that are not 0, with their columns. */

/** One vector: columns in ascending order, and their values. */
export interface SparseVector {
  readonly indices: Int32Array;
  readonly values: Float32Array;
}

/** What is not 0 of each row of float32 [n, width], at most so many values of the largest magnitude. */
export function sparseRows(outputs: Float32Array, width: number, maxValues: number | undefined): SparseVector[] {
  const rows: SparseVector[] = [];
  for (let start = 0; start < outputs.length; start += width) {
    rows.push(sparseRow(outputs.subarray(start, start + width), maxValues));
  }
  return rows;
}

function sparseRow(row: Float32Array, maxValues: number | undefined): SparseVector {
  let columns: number[] = [];
  row.forEach((value, column) => {
    if (value !== 0) {
      columns.push(column);
    }
  });
  if (maxValues !== undefined && columns.length > maxValues) {
    // Of equal values those of lower columns stay: the sort is stable.
    columns.sort((one, other) => Math.abs(row[other]) - Math.abs(row[one]));
    columns = columns.slice(0, maxValues).sort((one, other) => one - other);
  }
  return { indices: Int32Array.from(columns), values: Float32Array.from(columns, (column) => row[column]) };
}
