/** A time as the database keeps it: seconds since 1970, and nanoseconds, which are whole microseconds. */
interface Instant {
  readonly seconds: bigint;
  readonly nanos: number;
}

/**
 * Reads a DATETIME(6) in UTC as the driver returns it, `2025-08-22 09:21:39.697094`, without losing a microsecond.
 *
 * @throws {TypeError} for any other text: an unreadable value is a bug and not an empty value.
 */
export function parseDatetime(text: string): Instant {
  return { seconds: BigInt(secondsOf(text)), nanos: nanosOf(text) };
}

/** The first second of the year 1, before which Protobuf has no Timestamp. */
const firstSecond = -62_135_596_800;

/**
 * The seconds of a DATETIME(6) since 1970 in the range of Protobuf's Timestamp; undefined outside of it, such as for
 * `0000-00-00 00:00:00`, which a server may have accepted.
 */
export function timestampSeconds(text: string): number | undefined {
  const seconds = secondsOrNaN(text);
  return seconds >= firstSecond ? seconds : undefined;
}

/** The seconds of a DATETIME(6) since 1970. @throws {TypeError} for any other text. */
function secondsOf(text: string): number {
  const seconds = secondsOrNaN(text);
  if (Number.isNaN(seconds)) throw new TypeError('not a DATETIME(6)');
  return seconds;
}

function secondsOrNaN(text: string): number {
  const year = 100 * digits(text, 0) + digits(text, 2);
  const month = digits(text, 5);
  const day = digits(text, 8);
  const hours = digits(text, 11);
  const minutes = digits(text, 14);
  const seconds = digits(text, 17);
  // NaN is in no range.
  const isDate =
    year >= 0 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && separates(text, 4, '-') && separates(text, 7, '-');
  const isTime = hours <= 23 && minutes <= 59 && seconds <= 59 && separates(text, 13, ':') && separates(text, 16, ':');
  if (!isDate || !isTime || !separates(text, 10, ' ')) return Number.NaN;
  return daysOf(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds;
}

/**
 * The part of a DATETIME(6) below its seconds, in nanoseconds.
 *
 * @throws {TypeError} for any other text.
 */
export function nanosOf(text: string): number {
  if (text.length === 19) return 0;
  const whole = text.length === 26 ? text : text.padEnd(26, '0');
  const micros = digits(whole, 20) * 10_000 + digits(whole, 22) * 100 + digits(whole, 24);
  if (!(micros >= 0 && separates(text, 19, '.')) || text.length === 20 || text.length > 26)
    throw new TypeError('not a DATETIME(6)');
  return micros * 1000;
}

/**
 * The days from 1970 to a date of the Gregorian calendar. Years begin in March here, so that a leap day is the last of its year.
 */
function daysOf(year: number, month: number, day: number): number {
  const years = month > 2 ? year : year - 1;
  const months = month > 2 ? month - 3 : month + 9;
  const leapDays = Math.floor(years / 4) - Math.floor(years / 100) + Math.floor(years / 400);
  return 365 * years + leapDays + Math.trunc((153 * months + 2) / 5) + day - 719_469;
}

/** The value of two digits, or NaN. */
function digits(text: string, at: number): number {
  const tens = text.charCodeAt(at) - 48;
  const ones = text.charCodeAt(at + 1) - 48;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? 10 * tens + ones : Number.NaN;
}

function separates(text: string, at: number, separator: string): boolean {
  return text.charCodeAt(at) === separator.charCodeAt(0);
}

/** Writes a time the way DATETIME(6) takes it, in UTC; nanoseconds below a microsecond are cut off. */
export function formatDatetime({ seconds, nanos }: Instant): string {
  const text = new Date(Number(seconds) * 1000).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}.${String(Math.trunc(nanos / 1000)).padStart(6, '0')}`;
}
