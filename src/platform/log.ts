import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** The number that pino gives to the level of warnings; errors have higher ones. */
const warning = 40;

/**
 * Lines are written together: when they are so many bytes, or after so many milliseconds; warnings and errors at once. Each write is
 * a system call on a thread of its own, which costs a call three times what the text of its line does. They are also written when the
 * program ends by itself, and lost when a signal ends it that it does not handle.
 */
const gathered = { minLength: 4096, periodicFlush: 50 };

/**
 * Opens the program's log: one JSON line an event on standard output, times in ISO 8601.
 *
 * Values under names that hold secrets are cut out, should one ever be logged by mistake; and the text of a failed statement, which
 * has the values of its rows in it.
 */
export function createLog(level: string, destination?: DestinationStream): Logger {
  const stream = destination ?? pino.destination({ dest: 1, sync: false, ...gathered });
  return pino(
    {
      hooks: {
        logMethod(args, write, number) {
          write.apply(this, args);
          if (number >= warning && 'flush' in stream) (stream as { flush(): void }).flush();
        },
      },
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['err.sql', 'token', 'password', 'secret', 'authorization', '*.token', '*.password', '*.secret'],
        remove: true,
      },
    },
    stream,
  );
}
