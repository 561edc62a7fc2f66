import { keyHelp } from './query-completion.ts';
import { splitQuery } from './query-text.ts';

/** The most letters that may be wrong in a word of this length: more, and another word is meant. */
const mostWrong = (word: string): number => (word.length <= 4 ? 1 : 2);

/**
 * What somebody may have meant by a term with a wrong key or value, such as `status:running` for `stauts:running` or
 * `status:runing`; undefined if nothing is close.
 */
export function repairTerm(term: string): string | undefined {
  const [{ key, value = '' } = {}] = splitQuery(term);
  if (key === undefined) return undefined;
  const known = keyHelp[key];
  if (known === undefined) {
    // A key that has this value is rather meant than one that is closer by a letter.
    const withValue = Object.keys(keyHelp).filter((each) => keyHelp[each]?.values?.includes(value.toLowerCase()));
    const meant = nearest(key, withValue, 2) ?? nearest(key, Object.keys(keyHelp));
    return meant === undefined ? undefined : `${meant}:${term.slice(term.indexOf(':') + 1)}`;
  }
  const values = value.split(',');
  const repaired = values.map((part) =>
    known.values?.includes(part.toLowerCase()) === true ? part : nearest(part.toLowerCase(), known.values ?? []),
  );
  return repaired.includes(undefined) ? undefined : `${key}:${repaired.join(',')}`;
}

/** The word that is closest to one, if it is close. */
function nearest(word: string, words: readonly string[], most = mostWrong(word)): string | undefined {
  const [best] = words
    .map((other) => ({ other, wrong: distance(word, other) }))
    .filter(({ wrong }) => wrong > 0 && wrong <= most)
    .sort((one, another) => one.wrong - another.wrong);
  return best?.other;
}

/** How many letters must be added, left out, replaced, or swapped with the next one, to make a word of another. */
function distance(one: string, other: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row++) {
    const next = [row];
    for (let column = 1; column <= other.length; column++) {
      const isSame = one[row - 1] === other[column - 1];
      const isSwapped = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      next.push(
        Math.min(
          (last[column] ?? 0) + 1,
          (next[column - 1] ?? 0) + 1,
          (last[column - 1] ?? 0) + (isSame ? 0 : 1),
          isSwapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      );
    }
    [beforeLast, last] = [last, next];
  }
  return last[other.length] ?? 0;
}
