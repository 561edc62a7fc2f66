import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { TaskSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { endedToday, orderAsked, ordersOf, timeColumnOf } from '../../web/list-order.ts';
import { tabOf, tabs, withoutTab, withTab } from '../../web/tabs.ts';

test.each(['', 'owner:*', 'owner:* status:running a/b'])('the tabs of %j are those that its queries have', (query) => {
  for (const { name } of tabs) {
    const asked = withTab(query, name);
    expect(tabOf(asked)).toBe(name);
    expect(withoutTab(asked)).toBe(query);
    for (const other of tabs) expect(withTab(asked, other.name)).toBe(withTab(query, other.name));
  }
});

test.each([
  'waiting:false',
  'state:idle',
  'phase:active',
  'state:failed,complete',
  'state:failed state:failed',
  'waiting:true state:idle',
])('%j is on no tab', (query) => {
  expect(tabOf(query)).toBeUndefined();
  expect(withoutTab(query)).toBe('');
});

test('what waits longest comes first where everything waits', () => {
  expect(orderAsked('owner:* waiting:true', '')).toBe('current_state.timestamp');
  expect(orderAsked('waiting:true', 'created_at')).toBe('created_at');
  expect(orderAsked('owner:*', '')).toBe('');
});

test('what ended last comes first where everything has ended, with how many of today', () => {
  expect(orderAsked('owner:* state:failed', '')).toBe('current_state.timestamp desc');
  const midnight = new Date().setHours(0, 0, 0, 0);
  const tasks = [midnight, midnight, midnight - 1].map((ms) =>
    create(TaskSchema, { currentState: { timestamp: timestampFromMs(ms) } }),
  );
  expect(endedToday('state:failed', '', tasks, true)).toBe('2 today');
  expect(endedToday('state:failed', '', tasks.slice(0, 2), true)).toBe('2+ today');
  expect(endedToday('state:complete', '', tasks.slice(0, 2), false)).toBe('2 today');
  expect(endedToday('state:failed', 'created_at', tasks, false)).toBeUndefined();
  expect(endedToday('waiting:true', '', tasks, false)).toBeUndefined();
});

test.each([
  ['', '', 'Changed'],
  ['owner:*', '', 'Created'],
  ['', 'created_at', 'Created'],
  ['', 'name desc', 'Changed'],
  ['', 'current_state.timestamp desc', 'Reported'],
  ['waiting:true', '', 'Asked'],
  ['waiting:true', 'created_at', 'Created'],
  ['owner:* state:failed', '', 'Reported'],
  ['state:complete', '', 'Reported'],
  ['state:failed', 'created_at desc', 'Created'],
])('the list of %j by %j shows when its tasks were: %s', (query, orderBy, name) => {
  expect(timeColumnOf(query, orderBy).name).toBe(name);
  expect(ordersOf(query).map(([value]) => value)).toContain(orderBy);
});
