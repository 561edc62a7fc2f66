import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** The number that pino gives to the level of warnings; errors have higher ones. */
const warning = 40;

/**
 * Lines are written in batches: at so many bytes, or after so many milliseconds; warnings and errors at once. Each write is a
 * system call on another thread, which costs three times as much as making the text of a line. Lines are also written when the
 * program exits by itself; they are lost when a signal kills it that it does not handle.
 */
const gathered = { bytes: 4096, milliseconds: 50 };

/**
 * Opens the program's log: one JSON line an event on standard output, times in ISO 8601.
 *
 * Values under names of secrets are removed, should one ever be logged by mistake, and so is the text of a failed statement, which
 * contains values of rows.
 */
export function createLog(level: string, destination?: DestinationStream): Logger {
  const standardOutput = destination === undefined ? openStandardOutput() : undefined;
  return pino(
    {
      hooks: {
        logMethod(args, write, number) {
          write.apply(this, args);
          standardOutput?.written(number >= warning);
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
    destination ?? standardOutput?.stream,
  );
}

/** Standard output with a buffer of lines. Its timer runs only while the buffer has some: pino's own would wake an idle process. */
function openStandardOutput(): { readonly stream: DestinationStream; written(atOnce: boolean): void } {
  const stream = pino.destination({ dest: 1, sync: false, minLength: gathered.bytes });
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    stream.flush();
  };
  return {
    stream,
    written(atOnce) {
      if (atOnce) flush();
      else timer ??= setTimeout(flush, gathered.milliseconds).unref();
    },
  };
}
