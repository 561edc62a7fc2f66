import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { EngineError } from './engine-error.ts';
import { type ServerCommand, type ServerProcess, startServerProcess, waitUntilAnswering, whyItEnded } from './server-process.ts';

/** A database server that is restarted whenever it ends by itself. */
interface SupervisedServer {
  /** The process id of the server, or of the last one while it restarts. */
  readonly pid: number;
  /** Shuts the server down for good. Takes 2 s at most; may be called more than once. */
  stop(): Promise<void>;
}

/** Options of {@link superviseServer}. */
interface Supervision {
  readonly command: ServerCommand;
  readonly socketPath: string;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Called before each start; returns a function that reads the server's output since then. */
  beginLog(): () => string;
  /** Called with the server's process id after each start. */
  noteServer(pid: number): void;
}

/** How long a server may take until it answers, in milliseconds: usually 100, longer for a recovery after a crash. */
const startLimitMs = 60_000;

/** How long a server may take to shut down before it is killed, in milliseconds. Committed data survives that. */
const stopGraceMs = 2000;

/** The delay before a server that died is restarted, in milliseconds: doubled from the first to the last. */
const firstDelayMs = 50;
const lastDelayMs = 5000;

/** When a server ran longer than this, in milliseconds, it is restarted with the first delay. */
const steadyMs = 30_000;

/**
 * Starts a server and waits until it answers. From then on it is restarted with the same arguments whenever it ends by itself.
 *
 * @throws {EngineError} with the server's last output, when it does not start the first time.
 */
export async function superviseServer({
  command,
  socketPath,
  log,
  beginLog,
  noteServer,
}: Supervision): Promise<SupervisedServer> {
  const stopping = new AbortController();
  let server: ServerProcess;

  const launch = async (): Promise<void> => {
    const printed = beginLog();
    server = startServerProcess(command);
    try {
      noteServer(server.pid);
      if (await waitUntilAnswering(server, socketPath, startLimitMs)) return;
    } catch (error) {
      await server.stop(0);
      throw error;
    }
    await server.stop(0);
    throw new EngineError(`the database server did not start (${await server.ended}): ${whyItEnded(printed())}`);
  };

  const keepRunning = async (): Promise<void> => {
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, lastDelayMs)) {
      const since = performance.now();
      const how = await server.ended;
      if (stopping.signal.aborted) return;
      if (performance.now() - since > steadyMs) delayMs = firstDelayMs;
      log.error({ pid: server.pid, how }, 'the database server ended by itself; starting it again');
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      try {
        await launch();
        log.info({ pid: server.pid }, 'the database server runs again');
      } catch (error) {
        if (!stopping.signal.aborted) log.error({ reason: String(error) }, 'the database server could not be started again');
      }
    }
  };

  await launch();
  const watching = keepRunning();
  return {
    get pid() {
      return server.pid;
    },
    async stop() {
      stopping.abort();
      await server.stop(stopGraceMs);
      await watching;
    },
  };
}
