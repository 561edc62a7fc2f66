import { create } from '@bufbuild/protobuf';
import type { Call } from '../call/call.ts';
import { invalidArgument } from '../call/errors.ts';
import {
  type ListQueryValuesRequest,
  type ListQueryValuesResponse,
  ListQueryValuesResponseSchema,
  QueryKey,
} from '../gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from './scope.ts';
import type { TaskRepository } from './store/task-repository.ts';
import { maxValues, type ValueKey } from './store/value-query.ts';

/** The method ListQueryValues. It does not know which transport called it. */
export type ListQueryValues = (request: ListQueryValuesRequest, call: Call) => Promise<ListQueryValuesResponse>;

const keys: ReadonlyMap<QueryKey, ValueKey> = new Map([
  [QueryKey.OWNER, 'owner'],
  [QueryKey.TEMPLATE, 'template'],
]);

/** Makes the method ListQueryValues. */
export function createListQueryValues({ tasks }: { readonly tasks: TaskRepository }): ListQueryValues {
  return async ({ key: asked, prefix }, call) => {
    const key = keys.get(asked);
    if (key === undefined) {
      throw invalidArgument([{ field: 'key', description: 'must be QUERY_KEY_OWNER or QUERY_KEY_TEMPLATE' }]);
    }
    const rows = await tasks.values(scopeOf(call.caller), key, prefix, call.signal);
    // Templates of several organizations may have one name.
    const isFirst = (index: number): boolean => rows[index - 1]?.[0].toLowerCase() !== rows[index]?.[0].toLowerCase();
    const values = rows.slice(0, maxValues).filter((_, index) => isFirst(index));
    return create(ListQueryValuesResponseSchema, {
      values: values.map(([value, displayName, icon]) => ({ value, displayName, icon })),
      incomplete: rows.length > maxValues,
    });
  };
}
