/** What is known of a frame: the server's numbers. */
export const STATUS = { none: 0, annotated: 1, tracked: 2, half: 3, stale: 4, partial: 5, held: 6 };

/** Whether a frame has results that are up to date and may be wrong, perhaps beside masks of the user's. */
export const isDoubtful = (status, confidence) => confidence !== 255
  && [STATUS.annotated, STATUS.tracked, STATUS.half, STATUS.partial].includes(status);
