/** A term of a query and its position: from `start` up to, not including, `end`. */
export interface QueryTerm {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** The text before the first `:` outside quotes, lower-cased; absent in a plain word. */
  readonly key?: string;
  /** The text after it, without enclosing quotes. */
  readonly value?: string;
}

/** Whose tasks a query matches: the caller's own, everyone's, or someone else's. */
type QueryScope = 'mine' | 'all' | 'other';

/** Keys with which a query without `owner` matches everyone's tasks. */
const wideningKeys = ['id', 'organization', 'shared_with_user', 'shared_with_group'];

/** Keys that depend on the clock, and cannot be watched. */
const clockKeys = ['has-agent', 'healthy'];

/** Splits a query into terms, by the grammar of docs/query.md. The service validates them. */
export function splitQuery(query: string): QueryTerm[] {
  const terms: QueryTerm[] = [];
  let quoted = false;
  let start = 0;
  let colon = -1;
  for (let at = 0; at <= query.length; at++) {
    const character = query[at];
    if (character === '"') quoted = !quoted;
    if (character === ':' && !quoted && colon === -1) colon = at;
    if (character !== undefined && (quoted || character !== ' ')) continue;
    if (at > start) {
      const text = query.slice(start, at);
      const parts =
        colon === -1 ? {} : { key: unquote(query.slice(start, colon)).toLowerCase(), value: unquote(query.slice(colon + 1, at)) };
      terms.push({ start, end: at, text, ...parts });
    }
    start = at + 1;
    colon = -1;
  }
  return terms;
}

/** The value of a key in a query, lower-cased. */
export function valueOf(query: string, key: string): string | undefined {
  return splitQuery(query)
    .find((term) => term.key === key)
    ?.value?.toLowerCase();
}

/** The query with another value for a key, or without the key. Its other terms stay as they are. */
export function withTerm(query: string, key: string, value: string | undefined): string {
  const terms = splitQuery(query);
  const first = terms.findIndex((term) => term.key === key);
  const texts = terms.flatMap((term, index) => {
    if (term.key !== key) return [term.text];
    return index === first && value !== undefined ? [`${key}:${value}`] : [];
  });
  if (first === -1 && value !== undefined) texts.push(`${key}:${value}`);
  return texts.join(' ');
}

/** Returns whose tasks a query matches. */
export function queryScopeOf(query: string): QueryScope {
  const terms = splitQuery(query);
  const owner = terms.find((term) => term.key === 'owner')?.value?.toLowerCase();
  if (owner === '*') return 'all';
  if (owner === 'me') return 'mine';
  if (owner !== undefined && owner !== '') return 'other';
  if (terms.some((term) => term.key === undefined && term.text.includes('/'))) return 'other';
  return terms.some((term) => wideningKeys.includes(term.key ?? '')) ? 'all' : 'mine';
}

/** The query for the caller's own tasks, or for everyone's, with its other terms kept. */
export function withScope(query: string, scope: 'mine' | 'all'): string {
  const withoutOwner = withTerm(query, 'owner', undefined);
  if (queryScopeOf(withoutOwner) === scope) return withoutOwner;
  return withTerm(query, 'owner', scope === 'all' ? '*' : 'me');
}

/** Whether WatchTasks takes the query. */
export function isWatchable(query: string): boolean {
  return !splitQuery(query).some((term) => clockKeys.includes(term.key ?? ''));
}

/** A value, quoted if a query needs that. */
export function quoteValue(value: string): string {
  return /[ :]/.test(value) ? `"${value.replaceAll('"', '')}"` : value;
}

function unquote(text: string): string {
  return text.replace(/^"+|"+$/g, '');
}
