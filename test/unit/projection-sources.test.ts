import { describe, expect, test } from 'vitest';
import { projectTask } from '../../src/projection/project-task.ts';
import { taskColumns } from '../../src/projection/read-model.ts';
import { tableTasksSql } from '../../src/projection/table-tasks.ts';
import { taskFactsSql } from '../../src/projection/task-facts.ts';
import { taskOfWorkspace } from '../../src/projection/workspace-tasks.ts';
import { projectedTables } from '../../src/schema/projected-tables.ts';
import { triggerNames, triggers } from '../../src/schema/triggers.ts';
import { someFacts } from '../support/task-facts.ts';

/** The columns that a statement reads of each table, by its aliases. */
function columnsRead(sql: string): Map<string, Set<string>> {
  const tables = new Map([...sql.matchAll(/(?:from|join) `(\w+)` as `(\w+)`/g)].map(([, table, alias]) => [alias, table]));
  const read = new Map<string, Set<string>>();
  for (const [, alias, column] of sql.matchAll(/`(\w+)`\.`(\w+)`/g)) {
    const table = tables.get(alias);
    if (table === undefined || column === undefined) throw new Error(`an alias without a table: ${alias}`);
    read.set(table, (read.get(table) ?? new Set()).add(column));
  }
  return read;
}

describe('the list of columns', () => {
  const read = columnsRead(taskFactsSql);
  for (const [table, columns] of columnsRead(tableTasksSql)) {
    read.set(table, new Set([...(read.get(table) ?? []), ...columns]));
  }
  // The template of a task's version is there before the task, and stays.
  read.delete('template_versions');

  test.each(Object.entries(projectedTables))('%s: has what the projection reads, and no more', (table, { key, columns }) => {
    expect([key, ...Object.keys(columns)].toSorted()).toEqual([...new Set([...(read.get(table) ?? []), key])].toSorted());
  });

  test('has every table that the projection reads', () => {
    expect([...read.keys()].toSorted()).toEqual(Object.keys(projectedTables).toSorted());
  });

  test('what is left out on purpose is not read', () => {
    expect(`${taskFactsSql} ${tableTasksSql}`).not.toMatch(/last_used_at|connected_at|`j`\.`updated_at`/);
  });
});

describe('triggers', () => {
  test('are three a table, with names that the engines take', () => {
    expect(triggers).toHaveLength(3 * Object.keys(projectedTables).length);
    for (const name of triggerNames) {
      expect(name.length).toBeLessThanOrEqual(64);
      expect(name).toMatch(/^tasks_note_\w+_(insert|update|delete)_[0-9a-f]{8}$/);
    }
    expect(new Set(triggerNames).size).toBe(triggerNames.length);
  });

  test('insert values and look nothing up', () => {
    for (const { statement } of triggers) {
      expect(statement).toContain('insert into `workspace_changes` (`kind`, `ref`) values (');
      expect(statement).not.toMatch(/select/i);
    }
  });
});

test('a row has the columns that are compared and written, and no more', () => {
  const task = taskOfWorkspace(someFacts());
  expect(task && Object.keys(projectTask(task).row)).toEqual([...taskColumns]);
});
