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

/** The smallest part {left, top, right, bottom} of a frame that holds every run, null where all is outside. */
export function extent(runs, width) {
  let part = null;
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2 && runs[i]) {
      const left = at % width;
      const top = Math.floor(at / width);
      const bottom = Math.floor((at + runs[i] - 1) / width) + 1;
      const wraps = bottom > top + 1;
      part = union(part, { left: wraps ? 0 : left, top, right: wraps ? width : left + runs[i], bottom });
    }
    at += runs[i];
  }
  return part;
}

/** The smallest part that holds two parts; null is none. */
export function union(a, b) {
  if (!a || !b) return a ?? b;
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}

/** Writes `value` into `target` wherever the runs are inside. */
export function fillRuns(target, runs, value) {
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2) target.fill(value, at, at + runs[i]);
    at += runs[i];
  }
}
