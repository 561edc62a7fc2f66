import { type QueryTerm, splitQuery } from './query-text.ts';

/** A problem of a query, with its position if it has one. */
export interface QueryProblem {
  readonly message: string;
  readonly place?: { readonly start: number; readonly end: number };
}

/** Finds the positions of the violations of a BadRequest in a query. Those of other fields have none. */
export function placeProblems(
  query: string,
  violations: readonly { readonly field: string; readonly description: string }[],
): QueryProblem[] {
  const terms = splitQuery(query);
  return violations.map(({ field, description }) => {
    const [, text = description, position] = /^(.*) \(at position (\d+)\)$/s.exec(description) ?? [];
    const term = position === undefined ? byKey(terms, field) : at(terms, Number(position));
    const message = field === 'query' || field === '' ? text : `${field} ${text}`;
    return term === undefined ? { message } : { message, place: { start: term.start, end: term.end } };
  });
}

function at(terms: readonly QueryTerm[], position: number): QueryTerm | undefined {
  return terms.find(({ start, end }) => start <= position && position < end);
}

/** The term of a key. A plain word is a value of `name` or, with a slash, of `owner`. */
function byKey(terms: readonly QueryTerm[], key: string): QueryTerm | undefined {
  const named = terms.find((term) => term.key === key);
  return named ?? (key === 'name' || key === 'owner' ? terms.find((term) => term.key === undefined) : undefined);
}
