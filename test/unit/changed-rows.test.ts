import { expect, test } from 'vitest';
import { canFollow, changedSince, keysOnly } from '../../src/sync/changed-rows.ts';
import { parseSnapshot } from '../../src/sync/snapshot-visibility.ts';
import { planTables, type TablePlan } from '../../src/sync/source-version.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';

const columns = syncedTables.flatMap(({ name, columns }) =>
  Object.entries(columns).map(([column, { source }]) => ({ table: name, column: source ?? column, readable: true })),
);
const { plans } = planTables(columns, {}, () => {});
const planOf = (name: string): TablePlan => plans.find(({ table }) => table.name === name) as TablePlan;

test('rows of a table that were written since a snapshot are read by their transaction', () => {
  const statement = changedSince(planOf('group_members'), parseSnapshot('1234:1300:1234,1250'));
  expect(statement).toBe(
    `select t."user_id", t."group_id" from "group_members" as t where age(t.xmin) between 0 and age('1234'::xid)`,
  );
});

test.each([
  [`${2n ** 32n}:${2n ** 32n + 9n}:`, '3'], // 0 to 2 are no transactions
  [`${2n ** 33n + 700n}:${2n ** 33n + 701n}:`, '700'],
  [`${2n ** 32n - 1n}:${2n ** 32n}:`, `${2n ** 32n - 1n}`],
])('ids of snapshots have 64 bits, and those of rows 32: %s', (snapshot, id) => {
  expect(changedSince(planOf('groups'), parseSnapshot(snapshot))).toContain(`age('${id}'::xid)`);
});

test.each([
  ['10:20:', '10:20:', true],
  ['10:20:', '5:20:', false],
  ['10:20:', `${2 ** 30 - 20}:${2 ** 30}:`, true],
  ['10:20:', `${2 ** 30}:${2 ** 30 + 10}:`, false],
])('from %s to %s: %s', (before, now, can) => {
  expect(canFollow(parseSnapshot(before), parseSnapshot(now))).toBe(can);
});

test('keys are read in their order', () => {
  const plan = keysOnly(planOf('api_keys'));
  expect(plan.select).toBe('select t."id" from "api_keys" as t order by t."id" collate "C"');
  expect(plan.toRow(['abc'])).toMatchObject({ id: 'abc' });
});
