/**
 * Largest request, before and after decompression. The longest valid one is some kilobytes. It is kept until it is whole, over gRPC
 * also for those who have no token: 1000 at a time at gRPC's own limit of 4 MiB would be four gigabytes for one connection.
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

/** The longest timer Node has, 24.8 days; a longer one would fire at once. A later deadline is none. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * How connections are asked whether their other end is still there: by TCP, after a minute of silence, and then up to ten times,
 * a second apart. Pings of HTTP/2 would do harm: Node sends none on a connection that is closing, which grpc-js takes for a
 * broken one, and cuts it with the calls that still run.
 */
export const tcpKeepAlive = { keepAlive: true, keepAliveInitialDelay: 60_000 } as const;
