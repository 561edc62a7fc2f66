import { expect, test } from 'vitest';
import { orderAsked, ordersOf, timeColumnOf } from '../../web/list-order.ts';
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

test.each([
  ['', '', 'Changed'],
  ['owner:*', '', 'Created'],
  ['', 'created_at', 'Created'],
  ['', 'name desc', 'Changed'],
  ['', 'current_state.timestamp desc', 'Reported'],
  ['waiting:true', '', 'Asked'],
  ['waiting:true', 'created_at', 'Created'],
])('the list of %j by %j shows when its tasks were: %s', (query, orderBy, name) => {
  expect(timeColumnOf(query, orderBy).name).toBe(name);
  expect(ordersOf(query).map(([value]) => value)).toContain(orderBy);
});
