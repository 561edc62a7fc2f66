import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Task, TaskSchema, TaskStateEntrySchema, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { applyEvents, type LiveEvent, noPendingChanges, orderOf, settle } from '../../web/live-list.ts';

const { RUNNING, STOPPED } = WorkspaceStatus;

/** A task created in a second of its own; its id goes with it. */
function task(second: number, fields: Partial<Pick<Task, 'name' | 'status' | 'favorite' | 'currentState'>> = {}): Task {
  return create(TaskSchema, {
    id: `task-${second}`,
    name: `name-${second}`,
    status: STOPPED,
    createdAt: { seconds: BigInt(second) },
    ...fields,
  });
}

const ids = (pages: readonly (readonly Task[])[]) => pages.map((page) => page.map(({ id }) => Number(id.slice(5))));
const newest = orderOf('owner:*', '');
const pages = [
  [task(9), task(7)],
  [task(5), task(3)],
];

describe('a change', () => {
  test('is shown where the row stands, whatever its order would be now', () => {
    const after = applyEvents(pages, noPendingChanges, [{ upserted: task(5, { name: 'other' }) }], newest, false);
    expect(ids(after.pages)).toEqual([
      [9, 7],
      [5, 3],
    ]);
    expect(after.pages[1]?.[0]?.name).toBe('other');
    expect(after.pages[0]).toBe(pages[0]);
    expect(after.pending).toEqual(noPendingChanges);
  });

  test('that puts a task elsewhere is held back, unless another one undoes it', () => {
    const byReport = orderOf('', 'current_state.timestamp desc');
    const reported = (second: number, at = second) =>
      task(second, { currentState: create(TaskStateEntrySchema, { timestamp: { seconds: BigInt(at) } }) });
    const rows = [[reported(9), reported(7)], [reported(5)]];
    const first = applyEvents(rows, noPendingChanges, [{ upserted: reported(5, 10) }], byReport, true);
    expect(ids(first.pages)).toEqual([[9, 7], [5]]);
    expect(ids(settle(first.pages, first.pending, byReport)).flat()).toEqual([5, 9, 7]);
    const second = applyEvents(first.pages, first.pending, [{ upserted: reported(5, 6) }], byReport, true);
    expect(second.pending).toEqual(noPendingChanges);
    const third = applyEvents(first.pages, first.pending, [{ removed: 'task-5' }], byReport, true);
    expect(ids(settle(third.pages, third.pending, byReport)).flat()).toEqual([9, 7]);
  });

  test('that brings a task, or takes one, is held back', () => {
    const events: LiveEvent[] = [{ upserted: task(8) }, { removed: 'task-7' }, { removed: 'task-8' }, { upserted: task(6) }];
    const after = applyEvents(pages, noPendingChanges, events, newest, false);
    expect(after.pages).toBe(pages);
    expect([...after.pending.arrived.keys()]).toEqual(['task-6']);
    expect([...after.pending.left]).toEqual(['task-7']);
    expect(ids(settle(after.pages, after.pending, newest))).toEqual([[9], [6, 5, 3]]);
  });

  test('of a task that left and came back undoes its leaving', () => {
    const gone = applyEvents(pages, noPendingChanges, [{ removed: 'task-7' }], newest, false);
    const back = applyEvents(gone.pages, gone.pending, [{ upserted: task(7) }], newest, false);
    expect(back.pending.left.size).toBe(0);
  });

  test('behind the last loaded task waits for its page, unless that was the last page', () => {
    const event: LiveEvent[] = [{ upserted: task(1) }];
    expect(applyEvents(pages, noPendingChanges, event, newest, false).pending.arrived.size).toBe(0);
    const { pending } = applyEvents(pages, noPendingChanges, event, newest, true);
    expect(ids(settle(pages, pending, newest))).toEqual([
      [9, 7],
      [5, 3, 1],
    ]);
  });

  test('fills an empty list', () => {
    const { pending } = applyEvents([[]], noPendingChanges, [{ upserted: task(1) }, { upserted: task(2) }], newest, true);
    expect(ids(settle([[]], pending, newest))).toEqual([[2, 1]]);
  });
});

test('after any changes a whole list holds what the service would list', () => {
  const event = fc.tuple(fc.integer({ min: 0, max: 12 }), fc.constantFrom('upsert', 'remove'));
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 12 })),
      fc.array(fc.array(event, { maxLength: 5 }), { maxLength: 5 }),
      (start, batches) => {
        const expected = new Set(start);
        const sorted = start.map((second) => task(second)).sort(newest);
        let list: readonly (readonly Task[])[] = [sorted.slice(0, 3), sorted.slice(3)];
        let pending = noPendingChanges;
        for (const batch of batches) {
          const events = batch.map(([second, kind]): LiveEvent => {
            if (kind === 'upsert') expected.add(second);
            else expected.delete(second);
            return kind === 'upsert' ? { upserted: task(second) } : { removed: `task-${second}` };
          });
          ({ pages: list, pending } = applyEvents(list, pending, events, newest, true));
        }
        expect(ids([settle(list, pending, newest).flat()])).toEqual([[...expected].sort((one, other) => other - one)]);
      },
    ),
  );
});

describe('the order', () => {
  const tasks = [
    task(1, { name: 'beta', status: RUNNING }),
    task(2, { name: 'Alpha', currentState: create(TaskStateEntrySchema, { timestamp: { seconds: 1n } }) }),
    task(3, { name: 'gamma', favorite: true, currentState: create(TaskStateEntrySchema, { timestamp: { seconds: 0n } }) }),
    task(4, { name: 'delta', status: RUNNING }),
  ];

  test.each([
    ['', '', [3, 1, 4, 2]],
    ['owner:bob', '', [1, 4, 2, 3]],
    ['owner:*', '', [4, 3, 2, 1]],
    ['', 'created_at', [1, 2, 3, 4]],
    ['', 'created_at desc', [4, 3, 2, 1]],
    ['', 'current_state.timestamp', [1, 4, 3, 2]],
    ['owner:*', 'current_state.timestamp desc', [2, 3, 4, 1]],
    ['', 'name', [2, 1, 4, 3]],
    ['', 'name desc', [3, 4, 1, 2]],
  ])('of %j by %j', (query, orderBy, expected) => {
    expect(ids([[...tasks].sort(orderOf(query, orderBy))])).toEqual([expected]);
  });
});
