// Masks on the wire: lengths of runs along the rows, in turn outside and inside, beginning outside.

export function encodeRuns(mask) {
  const runs = [];
  let inside = 0;
  let begin = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== inside) {
      runs.push(i - begin);
      begin = i;
      inside = mask[i];
    }
  }
  runs.push(mask.length - begin);
  return runs;
}

/** Writes `value` into `target` wherever the runs are inside. */
export function fillRuns(target, runs, value) {
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2) target.fill(value, at, at + runs[i]);
    at += runs[i];
  }
}
