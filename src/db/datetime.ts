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
  const milliseconds = shape.test(text) ? Date.parse(`${text.slice(0, 10)}T${text.slice(11, 19)}Z`) : Number.NaN;
  if (Number.isNaN(milliseconds)) throw new TypeError('not a DATETIME(6)');
  return { seconds: BigInt(milliseconds / 1000), nanos: Number(text.slice(20).padEnd(6, '0')) * 1000 };
}

/** Writes a time the way DATETIME(6) takes it, in UTC; nanoseconds below a microsecond are cut off. */
export function formatDatetime({ seconds, nanos }: Instant): string {
  const text = new Date(Number(seconds) * 1000).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}.${String(Math.trunc(nanos / 1000)).padStart(6, '0')}`;
}
