import { InvalidArgumentError } from 'commander';

/** A parser of whole numbers between two bounds, for an option. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`must be a whole number from ${least} to ${most}`);
  };
}

/** Collects the values of an option that may be given several times. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** Most characters of a token's name, which its column has room for. */
const maxKeyName = 191;

/** Parses the name of a session token. */
export function keyName(text: string): string {
  if ([...text].length <= maxKeyName && !/\p{Cc}/u.test(text)) return text;
  throw new InvalidArgumentError(`must have at most ${maxKeyName} characters, all of them printable`);
}
