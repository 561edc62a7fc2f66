/**
 * The address of a picture if it may be loaded: one of an allowed origin. A path, such as Coder's `/icon/docker.png`, is one of
 * the first allowed origin.
 */
export function pictureAddress(text: string, allowed: readonly string[]): string | undefined {
  const [first] = allowed;
  if (!/^(?:https?:\/)?\//.test(text) || first === undefined) return undefined;
  const url = URL.parse(text, first);
  return url !== null && allowed.includes(url.origin) ? url.href : undefined;
}

/** Up to two letters that stand for a name: of `release-bot` they are `RB`. */
export function initialsOf(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== '');
  const letters = words.length > 1 ? words.slice(0, 2).map(firstLetter) : [...(words[0] ?? '?')].slice(0, 2);
  return letters.join('').toUpperCase();
}

/** One of so many colors for a name, always the same. */
export function colorOf(name: string, colors: number): number {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 65_521;
  return sum % colors;
}

function firstLetter(word: string): string {
  return [...word][0] ?? '';
}
