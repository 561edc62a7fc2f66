/**
 * The URL of a picture if its origin is allowed, else undefined. A path, such as Coder's `/icon/docker.png`, belongs to the first
 * allowed origin.
 */
export function pictureAddress(text: string, allowed: readonly string[]): string | undefined {
  const [first] = allowed;
  if (!/^(?:https?:\/)?\//.test(text) || first === undefined) return undefined;
  const url = URL.parse(text, first);
  return url !== null && allowed.includes(url.origin) ? url.href : undefined;
}

/** Up to two initials of a name: `RB` for `release-bot`. */
export function initialsOf(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== '');
  const letters = words.length > 1 ? words.slice(0, 2).map(firstLetter) : [...(words[0] ?? '?')].slice(0, 2);
  return letters.join('').toUpperCase();
}

/** The number of a color for a name, always the same. */
export function colorOf(name: string, colors: number): number {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 65_521;
  return sum % colors;
}

function firstLetter(word: string): string {
  return [...word][0] ?? '';
}
