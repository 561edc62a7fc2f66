import { invalidArgument, type Violation } from '../../call/errors.ts';
import { parseLooseUuid } from '../../tasks/query-keys.ts';

/** Most tasks in one answer. A list of more must be read in parts, or by ListTasks. */
export const maxTasks = 10_000;

/** Most tasks to pass over. They are read to be passed over, so an offset costs as much as a list that long. */
export const maxOffset = 10_000;

/** What the address of a list asks for. */
export interface ListParameters {
  /** The first `q`, or nothing. */
  readonly query: string;
  /** Most tasks in the answer; 0 means all. */
  readonly limit: number;
  /** How many tasks to pass over first. */
  readonly offset: number;
}

/**
 * Reads `q`, `limit` and `offset` the way Coder does (coderd/pagination.go): an empty value is as if it were absent, `after_id`
 * is checked and then ignored, parameters of other names are ignored.
 *
 * @throws {ConnectError} INVALID_ARGUMENT that names every wrong parameter at once.
 */
export function readListParameters(search: URLSearchParams): ListParameters {
  const violations: Violation[] = [];
  const single = <T>(name: string, byDefault: T, must: string, parse: (text: string) => T | undefined): T => {
    const [first = '', ...more] = search.getAll(name);
    if (first === '') return byDefault;
    const value = more.length === 0 ? parse(first) : undefined;
    if (value !== undefined) return value;
    const problem = more.length === 0 ? must : `provided more than once, found ${more.length + 1} times`;
    violations.push({ field: name, description: `Query param "${name}" ${problem}` });
    return byDefault;
  };

  single('after_id', undefined, 'must be a valid uuid', parseLooseUuid);
  const limit = single('limit', 0, mustBeNumber, parseNumber);
  const offset = single('offset', 0, mustBeNumber, parseNumber);
  if (offset > maxOffset) violations.push({ field: 'offset', description: `Query param "offset" must be at most ${maxOffset}` });

  const [problem, ...more] = violations;
  if (problem !== undefined) throw invalidArgument([problem, ...more]);
  return { query: search.get('q') ?? '', limit, offset };
}

const mustBeNumber = 'must be a valid 32-bit positive integer';
const maxInt32 = 2 ** 31 - 1;

/** A whole number from 0 to 2^31 - 1 in the forms that Go reads: a sign and zeros in front are taken. */
function parseNumber(text: string): number | undefined {
  if (!/^[+-]?[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  return value >= 0 && value <= maxInt32 ? Math.abs(value) : undefined; // -0 is 0
}
