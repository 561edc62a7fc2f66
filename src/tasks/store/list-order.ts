import type { TaskRow } from './tables.ts';

/**
 * The orders a list is read in. `key` is favorites, running, name; `run` is running, name: both are one column that ends in the
 * id, so that a position is a single comparison. `state_at` is when the current state was reported, before which come those
 * without one.
 */
export type ListOrder = 'key' | 'run' | 'name' | 'name desc' | 'created_at' | 'created_at desc' | 'state_at' | 'state_at desc';

/** The place behind a row in an order: values of the order's columns. Only `state_at` can be null. */
export type Position = readonly [key: Buffer] | readonly [name: Buffer, id: Buffer] | readonly [time: string | null, id: Buffer];

/** Columns and direction of each order, the suffix of the indexes that serve it, and the column that rows have for it alone. */
export const listOrders = {
  key: { columns: ['own_key'], direction: 'asc', index: 'key', key: 't.own_key' },
  run: { columns: ['run_key'], direction: 'asc', index: 'run', key: 't.run_key' },
  name: { columns: ['name_fold', 'id'], direction: 'asc', index: 'name', key: 't.name_fold' },
  'name desc': { columns: ['name_fold', 'id'], direction: 'desc', index: 'name', key: 't.name_fold' },
  created_at: { columns: ['created_at', 'id'], direction: 'asc', index: 'ct', key: undefined },
  'created_at desc': { columns: ['created_at', 'id'], direction: 'desc', index: 'ct', key: undefined },
  state_at: { columns: ['state_at', 'id'], direction: 'asc', index: 'sa', key: undefined },
  'state_at desc': { columns: ['state_at', 'id'], direction: 'desc', index: 'sa', key: undefined },
} as const satisfies Record<ListOrder, object>;

/** The position of a row in an order. */
export function positionOf(row: TaskRow, order: ListOrder): Position {
  const key = row.sort_key;
  if (key === null) return [order === 'state_at' || order === 'state_at desc' ? row.state_at : row.created_at, row.id];
  return order === 'key' || order === 'run' ? [key] : [key, row.id];
}
