const words = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });

const steps: readonly (readonly [unit: Intl.RelativeTimeFormatUnit, milliseconds: number, next: number])[] = [
  ['minute', 60_000, 3_600_000],
  ['hour', 3_600_000, 86_400_000],
  ['day', 86_400_000, 7 * 86_400_000],
  ['week', 7 * 86_400_000, 30 * 86_400_000],
  ['month', 30 * 86_400_000, 365 * 86_400_000],
  ['year', 365 * 86_400_000, Number.POSITIVE_INFINITY],
];

/** A time relative to now, such as `5 min. ago`. Clocks differ, so a time less than a minute ahead counts as now. */
export function relativeTime(at: number, now: number): string {
  const distance = Math.abs(now - at);
  if (distance < 60_000) return 'just now';
  const [unit, milliseconds] = steps.find(([, , next]) => distance < next) ?? ['year', 365 * 86_400_000];
  return words.format(Math.sign(at - now) * Math.floor(distance / milliseconds), unit);
}

const durations: readonly (readonly [unit: string, milliseconds: number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
];

/** How long ago a time was, such as `2 h`. */
export function durationSince(at: number, now: number): string {
  const [unit, milliseconds] = durations.find(([, least]) => now - at >= least) ?? [];
  return milliseconds === undefined ? 'a moment' : `${Math.floor((now - at) / milliseconds)} ${unit}`;
}
