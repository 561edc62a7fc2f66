/** The shortest and the longest pause between two polls, in milliseconds. */
export interface RestLimits {
  readonly least: number;
  readonly most: number;
}

/**
 * How long to rest before looking again for something that comes from outside, in milliseconds: a tenth of the time for which
 * nothing has come, within limits. While things come, they are found soon; when nothing comes, looking costs little.
 */
export function restAfterQuiet(quietMs: number, { least, most }: RestLimits): number {
  return Math.min(Math.max(quietMs / 10, least), most);
}
