import type { Knex } from 'knex';
import type { Database } from './connection.ts';

/**
 * Folds a text for a comparison that ignores case and nothing else: each character becomes its simple lower case, as in Go and the
 * C library, so that the result never depends on neighbouring characters and keeps the number of characters.
 */
export function foldCase(text: string): string {
  // İ, whose full lower case is two characters, and Σ, whose lower case differs at the end of a word.
  return text.replace(/[İΣ]/g, (letter) => (letter === 'İ' ? 'i' : 'σ')).toLowerCase();
}

/** Characters in one regular expression. The library of MariaDB takes 64 KiB when compiled; a letter takes up to 45 bytes. */
const charactersAtOnce = 512;

/** What a column is compared with: a folded text, and the pattern of each of its pieces, as values to bind. */
export interface AnyCaseText<Bound = string> {
  readonly text: Bound;
  readonly patterns: readonly Bound[];
}

/** A text for `equalsInAnyCase`. With more pieces than it has, it is compared with the same result. */
export function anyCaseText(text: string, pieces = 0): AnyCaseText {
  const characters = [...foldCase(text).toWellFormed()]; // as the database has half a surrogate pair
  const count = Math.max(pieces, Math.ceil(characters.length / charactersAtOnce));
  const patterns = Array.from({ length: count }, (_, piece) => {
    const part = characters.slice(piece * charactersAtOnce, (piece + 1) * charactersAtOnce);
    return String.raw`(?-i)\A${part.map(anyCaseOf).join('')}\z`;
  });
  return { text: characters.join(''), patterns };
}

/**
 * The condition that a column equals a text except for case, by the rules of `foldCase` on every engine: `lower()` of each engine
 * follows another, old version of Unicode.
 *
 * `char_length(f.name) = char_length('eu') and substring(f.name, 1, 512) regexp '(?-i)\A[\x{65}\x{45}][\x{75}\x{55}]\z'`, with the
 * text and its pattern bound; what is longer than 512 characters is compared piece by piece.
 */
export function equalsInAnyCase(database: Database, column: string, { text, patterns }: AnyCaseText<Knex.Value>): Knex.Raw {
  const conditions = ['char_length(??) = char_length(?)'];
  const values: Knex.Value[] = [column, text];
  for (const [piece, pattern] of patterns.entries()) {
    conditions.push(`substring(??, ${piece * charactersAtOnce + 1}, ${charactersAtOnce}) regexp ?`);
    values.push(column, pattern);
  }
  return database.raw(`(${conditions.join(' and ')})`, values);
}

/** The letters that fold to a lower-case letter, by that letter. */
let capitals: Map<string, string[]> | undefined;

/** A class of a regular expression: a folded character and all that fold to it, as code points, so that none needs escaping. */
function anyCaseOf(character: string): string {
  capitals ??= allCapitals();
  const all = [character, ...(capitals.get(character) ?? [])];
  return `[${all.map((each) => `\\x{${each.codePointAt(0)?.toString(16)}}`).join('')}]`;
}

function allCapitals(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  // Beyond the Supplementary Multilingual Plane no script has case.
  for (let code = 0; code < 0x20000; code++) {
    const letter = String.fromCodePoint(code);
    const folded = foldCase(letter);
    if (folded === letter) continue;
    const others = found.get(folded);
    if (others === undefined) found.set(folded, [letter]);
    else others.push(letter);
  }
  return found;
}
