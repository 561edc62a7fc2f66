import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/**
 * Opens the program's log: one JSON line an event on standard output, times in ISO 8601.
 *
 * Values under names that hold secrets are cut out, should one ever be logged by mistake; and the text of a failed statement, which
 * has the values of its rows in it.
 */
export function createLog(level: string, destination?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['err.sql', 'token', 'password', 'secret', 'authorization', '*.token', '*.password', '*.secret'],
        remove: true,
      },
    },
    destination ?? pino.destination({ dest: 1, sync: false }),
  );
}
