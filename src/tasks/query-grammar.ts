import { echo, type Violation } from '../call/errors.ts';
import { foldCase } from '../db/letter-case.ts';

/** Most bytes of a query in UTF-8, and most terms in it. Beyond that a query is a mistake, or an attack on the parser. */
export const maxQueryBytes = 4096;
export const maxQueryTerms = 64;

/** One value that a query gives for a key: lower-cased, without its quotes, and where it stands. */
export interface QueryValue {
  readonly value: string;
  /** The offset of the term in the query, in UTF-16 code units from 0. */
  readonly position: number;
}

/** What a query says: for each key its values in order. A free word is a value of `name`, `owner/name` of both. */
export interface ParsedQuery {
  readonly values: ReadonlyMap<string, readonly QueryValue[]>;
  readonly violations: readonly Violation[];
}

/** A part of a query. */
interface Piece {
  readonly text: string;
  readonly position: number;
}

/**
 * Splits a query into keys and values, by the grammar of Coder's search box (coderd/searchquery/search.go) with its free words
 * joined to one name (coder/coder #19552):
 *
 * - Terms are separated by spaces. A `"` opens or closes a quotation, in which nothing separates; one left open runs to the end.
 * - `key:value` has exactly one `:` outside quotations, neither first nor last. Keys and values are lower-cased.
 * - A key whose values have colons, such as a time, takes all that follows its first `:`.
 * - What has no `:` is a free word. All free words together, joined by single spaces, are a name, or `owner/name`.
 *
 * Never throws. All problems are reported, each with the field `query` and its position.
 */
export function parseQuery(query: string, hasColons: (key: string) => boolean = () => false): ParsedQuery {
  const values = new Map<string, QueryValue[]>();
  const violations: Violation[] = [];
  const refuse = (description: string, position: number) =>
    violations.push({ field: 'query', description: `${description} (at position ${position})` });
  if (Buffer.byteLength(query) > maxQueryBytes) {
    return { values, violations: [{ field: 'query', description: `must be at most ${maxQueryBytes} bytes long` }] };
  }
  const terms = split(query, ' ', 0);
  if (terms.length > maxQueryTerms) {
    return {
      values,
      violations: [{ field: 'query', description: `must have at most ${maxQueryTerms} terms, has ${terms.length}` }],
    };
  }
  const add = (key: string, value: string, position: number) => {
    const present = values.get(key);
    if (present === undefined) values.set(key, [{ value, position }]);
    else present.push({ value, position });
  };

  const free: Piece[] = [];
  for (const term of terms) {
    if (term.text.startsWith(':') || term.text.endsWith(':')) {
      refuse(`"${echo(term.text)}" must not start or end with ":"`, term.position);
      continue;
    }
    const [key, value, ...more] = split(term.text, ':', term.position);
    const name = foldCase(unquote(key?.text ?? ''));
    if (key === undefined || value === undefined) free.push(term);
    else if (more.length > 0 && !hasColons(name))
      refuse(`"${echo(term.text)}" must have one ":" only; put a value with ":" in quotation marks`, term.position);
    else {
      const rest = query.slice(value.position, term.position + term.text.length);
      add(name, foldCase(unquote(rest)), term.position);
    }
  }

  const first = free[0];
  if (first !== undefined) {
    const parts = split(free.map((word) => word.text).join(' '), '/', first.position).map((part) =>
      foldCase(
        split(part.text, ' ', 0)
          .map((word) => unquote(word.text))
          .join(' '),
      ),
    );
    const [owner, name] = parts;
    if (parts.length === 1 && owner !== undefined) add('name', owner, first.position);
    else if (parts.length === 2 && owner !== undefined && name !== undefined) {
      add('owner', owner, first.position);
      add('name', name, first.position);
    } else refuse('free words must be a name or owner/name, with one "/" only', first.position);
  }
  return { values, violations };
}

/** Splits at a character outside quotations. Empty pieces vanish, so runs of separators count as one. */
export function split(text: string, separator: string, offset: number): Piece[] {
  const pieces: Piece[] = [];
  let quoted = false;
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const character = text[at];
    if (character === '"') quoted = !quoted;
    if (character !== undefined && (quoted || character !== separator)) continue;
    if (at > start) pieces.push({ text: text.slice(start, at), position: offset + start });
    start = at + 1;
  }
  return pieces;
}

/** Takes the quotation marks at both ends off. */
export function unquote(text: string): string {
  return text.replace(/^"+|"+$/g, '');
}
