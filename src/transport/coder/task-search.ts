import { echo, invalidArgument, type Violation } from '../../call/errors.ts';
import { foldCase } from '../../db/letter-case.ts';
import { maxQueryBytes, maxQueryTerms, split, unquote } from '../../tasks/query-grammar.ts';
import { taskStatusWords } from './coder-task.ts';

/** What the `q` of `/api/v2/tasks` asks for. All of it is in lower case. */
export interface TaskSearch {
  /** A username, a user's id, or `me`. */
  readonly owner?: string;
  /** An organization's name or id. */
  readonly organization?: string;
  /** A task's own status. */
  readonly status?: string;
}

const keys: ReadonlySet<string> = new Set(['owner', 'organization', 'status'] satisfies (keyof TaskSearch)[]);

/**
 * Reads a `q` the way newer versions of Coder do (coderd/searchquery/search.go, Tasks): terms between spaces, `key:value` with one
 * `:`, quotations in which nothing separates, everything in lower case. All free words together are the owner. An empty value is as
 * if it were absent.
 *
 * @throws {ConnectError} INVALID_ARGUMENT that names every key that is wrong.
 */
export function readTaskSearch(query: string): TaskSearch {
  if (Buffer.byteLength(query) > maxQueryBytes) throw refused(`must be at most ${maxQueryBytes} bytes long`);
  const terms = split(query, ' ', 0).map(({ text }) => text);
  if (terms.length > maxQueryTerms) throw refused(`must have at most ${maxQueryTerms} terms, has ${terms.length}`);
  const values = new Map<string, string[]>();
  const add = (key: string, value: string) => values.set(key, [...(values.get(key) ?? []), foldCase(unquote(value))]);
  const free: string[] = [];
  for (const term of terms) {
    if (term.startsWith(':') || term.endsWith(':')) throw refused(`Query element "${echo(term)}" cannot start or end with ':'`);
    const [key = '', value, ...more] = split(term, ':', 0).map(({ text }) => text);
    if (value === undefined) free.push(term);
    else if (more.length > 0) throw refused(`Query element "${echo(term)}" can only contain 1 ':'`);
    else add(foldCase(unquote(key)), value);
  }
  if (free.length > 0) add('owner', free.map(unquote).join(' '));

  const violations = [...values].flatMap(([key, given]): Violation[] => {
    if (!keys.has(key)) return [{ field: echo(key), description: `"${echo(key)}" is not a valid query param` }];
    if (given.length > 1) {
      const description = `Query param "${key}" provided more than once, found ${given.length} times. Only provide 1 instance of this query param.`;
      return [{ field: key, description }];
    }
    const [value = ''] = given;
    if (key !== 'status' || value === '' || statuses.includes(value)) return [];
    return [{ field: key, description: `Query param "status" has invalid value: use ${statuses.join(', ')}` }];
  });
  const [problem, ...more] = violations;
  if (problem !== undefined) throw invalidArgument([problem, ...more], 'INVALID_QUERY');
  return Object.fromEntries([...values].flatMap(([key, [value = '']]) => (value === '' ? [] : [[key, value]])));
}

const statuses: readonly string[] = [...taskStatusWords.values()];

function refused(description: string): Error {
  return invalidArgument([{ field: 'q', description }], 'INVALID_QUERY');
}
