import { create } from '@bufbuild/protobuf';
import type { Call } from '../call/call.ts';
import {
  type CountTasksRequest,
  type CountTasksResponse,
  CountTasksResponseSchema,
  type TaskPhase,
  type TaskState,
  type WorkspaceStatus,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { ResolveQuery } from './resolve-query.ts';
import { scopeOf } from './scope.ts';
import { allStatuses } from './store/branches.ts';
import { allPhases, allStates, type CountedBy } from './store/count-buckets.ts';
import type { KindCounts } from './store/count-query.ts';
import type { TaskRepository } from './store/task-repository.ts';
import { maxOfKind } from './store/task-statements.ts';
import { readTaskQuery } from './task-query.ts';

/** The method CountTasks. It does not know which transport called it. */
export type CountTasks = (request: CountTasksRequest, call: Call) => Promise<CountTasksResponse>;

/** What CountTasks is made of. */
interface CountTasksParts {
  readonly tasks: TaskRepository;
  readonly resolveQuery: ResolveQuery;
}

/** Makes the method CountTasks. */
export function createCountTasks({ tasks, resolveQuery }: CountTasksParts): CountTasks {
  return async ({ query }, call) => {
    const { filter } = await resolveQuery(readTaskQuery({ query, orderBy: '', pageSize: 0 }), query, call);
    return toCountTasksResponse(filter && (await tasks.countKinds(scopeOf(call.caller), filter, call.signal)));
  };
}

/** The message for counts, or for none. */
function toCountTasksResponse(counts: KindCounts | undefined): CountTasksResponse {
  const countOf = (by: CountedBy, value: number) => capped(counts?.[by].get(value) ?? 0);
  const perPhase = Array.from(counts?.phase.values() ?? []);
  return create(CountTasksResponseSchema, {
    // Every task is in a phase.
    total: capped(perPhase.reduce((sum, count) => sum + count, 0)),
    waiting: countOf('waiting', 1),
    statuses: allStatuses.map((status) => ({ status: status as WorkspaceStatus, ...countOf('status', status) })),
    phases: allPhases.map((phase) => ({ phase: phase as TaskPhase, ...countOf('phase', phase) })),
    states: allStates.map((state) => ({ state: state as TaskState, ...countOf('state', state) })),
  });
}

function capped(count: number): { readonly count: number; readonly capped: boolean } {
  return { count: Math.min(count, maxOfKind), capped: count > maxOfKind };
}
