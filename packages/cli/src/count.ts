import { toJson } from '@bufbuild/protobuf';
import { type CountTasksResponse, CountTasksResponseSchema } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords, stateWords, statusWords } from '../../../src/tasks/query-keys.ts';
import type { TasksClient } from '../../client/src/tasks-client.ts';
import { unary } from './connect-service.ts';
import { endWithReader, type OutputOptions, printPairs } from './print-tasks.ts';
import { word } from './task-table.ts';

/** The options of `count`. */
export interface CountOptions extends OutputOptions {
  readonly query: string;
}

/**
 * Prints how many tasks match a query, and how many of these wait, and are of each status, phase and state.
 *
 * @throws {ConnectError} when the service refuses or is away.
 */
export async function countTasks({ query, output, quiet }: CountOptions, client: TasksClient): Promise<void> {
  const counts = await client.countTasks({ query }, unary);
  endWithReader();
  if (quiet === true) console.log(textOf(counts.total));
  else if (output === 'table') printPairs(pairsOf(counts));
  else if (output === 'name') for (const [term] of pairsOf(counts)) console.log(term);
  else console.log(JSON.stringify(toJson(CountTasksResponseSchema, counts), undefined, output === 'json' ? 2 : 0));
}

/** The terms of a query that have tasks, and how many. */
function pairsOf({ total, waiting, statuses, phases, states }: CountTasksResponse): (readonly [string, string])[] {
  const some = [
    ...statuses.map((one) => [`status:${word(statusWords, one.status)}`, one] as const),
    ...phases.map((one) => [`phase:${word(phaseWords, one.phase)}`, one] as const),
    ...states.map((one) => [`state:${word(stateWords, one.state)}`, one] as const),
  ].filter(([, { count }]) => count > 0);
  return [['all', total] as const, ['waiting:true', waiting] as const, ...some].map(([term, one]) => [term, textOf(one)]);
}

function textOf(one: { readonly count: number; readonly capped: boolean } | undefined): string {
  return `${one?.count ?? 0}${one?.capped === true ? '+' : ''}`;
}
