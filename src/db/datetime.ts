/** A time as the database keeps it: seconds since 1970 and the nanoseconds on top, which are whole microseconds. */
export interface Instant {
  readonly seconds: bigint;
  readonly nanos: number;
}

const shape = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?$/;

/**
 * Reads a DATETIME(6) in UTC as the driver returns it, `2025-08-22 09:21:39.697094`, without losing a microsecond.
 *
 * @throws {TypeError} for any other text: a row that cannot be read is a bug, not an empty value.
 */
export function parseDatetime(text: string): Instant {
  return { seconds: BigInt(secondsOf(text)), nanos: nanosOf(text) };
}

/** The seconds of a DATETIME(6) since 1970. @throws {TypeError} for any other text. */
export function secondsOf(text: string): number {
  const year = digits(text, 0) * 100 + digits(text, 2);
  const month = digits(text, 5);
  const day = digits(text, 8);
  const [hours, minutes, seconds] = [digits(text, 11), digits(text, 14), digits(text, 17)];
  if (!shape.test(text) || month < 1 || month > 12 || day < 1 || day > 31 || hours > 23 || minutes > 59 || seconds > 59) {
    throw new TypeError('not a DATETIME(6)');
  }
  // Date.UTC takes the years up to 99 for those of the last century: 400 years later the calendar is the same.
  return Date.UTC(year + 400, month - 1, day, hours, minutes, seconds) / 1000 - secondsOf400Years;
}

/** The part of a DATETIME(6) below its seconds, in nanoseconds. */
export function nanosOf(text: string): number {
  return text.length === 26
    ? (digits(text, 20) * 10_000 + digits(text, 22) * 100 + digits(text, 24)) * 1000
    : Number(text.slice(20).padEnd(6, '0')) * 1000;
}

const secondsOf400Years = 146_097 * 86_400;

/** The number that two digits are. */
function digits(text: string, at: number): number {
  return (text.charCodeAt(at) - 48) * 10 + text.charCodeAt(at + 1) - 48;
}

/** Writes a time the way DATETIME(6) takes it, in UTC; nanoseconds below a microsecond are cut off. */
export function formatDatetime({ seconds, nanos }: Instant): string {
  const text = new Date(Number(seconds) * 1000).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}.${String(Math.trunc(nanos / 1000)).padStart(6, '0')}`;
}
