/**
 * Largest request, before and after decompression. The longest valid one is some kilobytes. It is kept until it is whole, so that
 * this limit and the number of requests that are being received bound the memory together.
 */
export const maxRequestBytes = 64 * 1024;

/** Connections that a port takes; more are closed at once. An idle one costs 45 to 65 kB: all of them fit into memory. */
export const maxConnections = 2000;

/** How long a client may take for the first bytes, or for the handshake of TLS, in milliseconds: the slowest network is faster. */
export const greetingMs = 10_000;

/**
 * Unary calls that are worked on at once; more are refused with OVERLOADED. At a thousand or more a second, which one process
 * answers, they are done within a second; each takes some 30 kB meanwhile.
 */
export const maxUnaryCalls = 1000;

/**
 * Calls whose caller somebody has to be asked about, at once: in all, and of one network (an IPv4 address, or a /64 of IPv6), behind
 * which there may be many callers. They wait for some milliseconds, and each may hold {@link maxRequestBytes}: 62 MiB in all.
 */
export const authenticatingLimits = { total: 1000, perNetwork: 750 } as const;

/**
 * Calls of known callers whose requests are being received: as many as may be worked on, since they can come in one packet. Each may
 * hold {@link maxRequestBytes}: 62 MiB in all. Beyond, the one that has been sending for longest makes room. With those whose caller
 * is not known yet (62 MiB), and those of services that need no token (24 MiB), requests that are not whole hold 150 MiB at most.
 */
export const maxReceivingCalls = maxUnaryCalls;

/** How long a request may take before it makes room for another, in milliseconds, where there are too many. */
export const stalledAfterMs = 1000;

/** Limits of Health and Reflection, which need no token. */
export const openCallLimits = {
  /** Calls whose requests are being received: 16 MiB in all. */
  receiving: 256,
  /** Streams of one connection, for Health and for Reflection each: a client has one for each service that it watches. */
  streamsPerConnection: 8,
  /** Watches of Health in all. */
  streams: maxConnections,
  /** Streams of Reflection in all: 8 MiB. */
  bidiStreams: 128,
} as const;

/** The longest timer Node has, 24.8 days; a longer one would fire at once. A later deadline is none. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * How connections are asked whether their other end is still there: by TCP, after a minute of silence, and then up to ten times,
 * a second apart. Pings of HTTP/2 would do harm: Node sends none on a connection that is closing, which grpc-js takes for a
 * broken one, and cuts it with the calls that still run.
 */
export const tcpKeepAlive = { keepAlive: true, keepAliveInitialDelay: 60_000 } as const;
