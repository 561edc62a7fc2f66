/** Largest request, before and after decompression: 4 MiB, gRPC's own default. The longest valid one is some kilobytes. */
export const maxRequestBytes = 4 * 1024 * 1024;
