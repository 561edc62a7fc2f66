import { CommandError } from '../../../src/commands/command-error.ts';
import type { Task } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { TaskPhase, TaskState } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { parseQuery } from '../../../src/tasks/query-grammar.ts';
import { readTaskQuery } from '../../../src/tasks/task-query.ts';

/** The keys whose values are in the message of a task. */
const keys: ReadonlySet<string> = new Set(['status', 'phase', 'state', 'waiting']);

/**
 * Compiles a condition of `watch --until`: a query with the keys `status:`, `phase:`, `state:` and `waiting:` alone.
 *
 * @throws {CommandError} when the query is invalid or has other keys.
 */
export function readUntil(text: string): (task: Task) => boolean {
  const { query, queryViolations } = readTaskQuery({ query: text, orderBy: '', pageSize: 0 });
  const { filter } = query;
  const [problem] = queryViolations;
  if (problem !== undefined) throw new CommandError(`--until: ${problem.field}: ${problem.description}`);
  const given = [...parseQuery(text).values.keys()];
  const other = given.find((key) => !keys.has(key));
  if (other !== undefined) throw new CommandError(`--until: ${other}: is not allowed: use status:, phase:, state: and waiting:`);
  if (given.length === 0) throw new CommandError('--until: is empty');
  return ({ status, phase, currentState }) =>
    (filter.status === undefined || filter.status === status) &&
    (filter.phase === undefined || filter.phase === phase) &&
    (filter.state === undefined || filter.state === currentState?.state) &&
    (filter.waiting === undefined || filter.waiting === (phase === TaskPhase.ACTIVE && currentState?.state === TaskState.IDLE));
}
