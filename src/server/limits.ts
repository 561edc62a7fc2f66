/** Largest request, before and after decompression: 4 MiB, gRPC's own default. The longest valid one is some kilobytes. */
export const maxRequestBytes = 4 * 1024 * 1024;

/** The longest timer Node has, 24.8 days; a longer one would fire at once. A later deadline is none. */
export const longestTimerMs = 2 ** 31 - 1;
