/** What is known of a frame: the server's numbers. */
export const STATUS = { none: 0, annotated: 1, tracked: 2, half: 3, stale: 4 };
