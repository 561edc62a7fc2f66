/**
 * Largest request, before and after decompression. The longest valid one is some kilobytes. A request is buffered until it is
 * complete, so that this limit times the number of requests being received bounds the memory.
 */
export const maxRequestBytes = 64 * 1024;

/** Most connections of a port; further ones are closed at once. An idle one costs 45 to 65 kB. */
export const maxConnections = 2000;

/** How long a client may take for the first bytes, or for the TLS handshake, in milliseconds: enough for the slowest network. */
export const greetingMs = 10_000;

/**
 * Most unary calls that run at once; further ones are refused with OVERLOADED. One process answers a thousand or more a second, so
 * that as many calls are answered within a second; each takes some 30 kB meanwhile.
 */
export const maxUnaryCalls = 1000;

/**
 * Most calls at once whose caller is not cached and being authenticated: in all, and of one network (an IPv4 address, or a /64 of
 * IPv6), behind which there may be many callers. Each takes some milliseconds, and may hold {@link maxRequestBytes}: 62 MiB in all.
 */
export const authenticatingLimits = { total: 1000, perNetwork: 750 } as const;

/**
 * Most calls of authenticated callers whose requests are being received: as many as may run, since they can come in one packet.
 * Each may hold {@link maxRequestBytes}: 62 MiB in all. Beyond that, the oldest is ended. With those being authenticated (62
 * MiB), and those of services that need no token (24 MiB), incomplete requests hold 150 MiB at most.
 */
export const maxReceivingCalls = maxUnaryCalls;

/** How long a request may take before it can be ended in favour of another, in milliseconds. */
export const stalledAfterMs = 1000;

/** Limits of Health and Reflection, which need no token. */
export const openCallLimits = {
  /** Most calls whose requests are being received: 16 MiB in all. */
  receiving: 256,
  /** Most streams of one connection, for Health and for Reflection each: a client has one for each service that it watches. */
  streamsPerConnection: 8,
  /** Most watches of Health in all. */
  streams: maxConnections,
  /** Most streams of Reflection in all: 8 MiB. */
  bidiStreams: 128,
} as const;

/** The longest timer Node has, 24.8 days; a longer one would fire at once. A deadline beyond it is ignored. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * TCP keepalive: the first probe after a minute of silence, then up to ten, a second apart. HTTP/2 pings would do harm: Node sends
 * none on a connection that is closing, which grpc-js takes for a broken one, and cuts it with the calls that still run.
 */
export const tcpKeepAlive = { keepAlive: true, keepAliveInitialDelay: 60_000 } as const;
