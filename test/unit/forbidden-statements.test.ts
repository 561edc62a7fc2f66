import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findForbidden, readStatements } from '../support/forbidden-statements.ts';

test('what was sent to a server is read from its log, and what is forbidden is found', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tasks-sent-'));
  const file = join(folder, 'sent.log');
  const log = [
    '261130 22:00:00\t     3 Connect\troot@localhost on test using Socket',
    "\t\t     3 Query\tselect get_lock('a', 10) as `taken`",
    "\t\t     4 Query\tinsert into `t` values (1, 'get_lock(''x'')'), (2, x'00ff')",
    '\t\t     4 Prepare\tselect `t`.`id`',
    'from `t` where `t`.`id` in (?, ?, ?)',
    '\t\t     4 Execute\tselect `t`.`id`',
    'from `t` where `t`.`id` in (1, 2, 3)',
    '261130 22:00:01\t     4 Query\tcreate trigger `writers_code_tasks_insert` after insert on `tasks` for each row set @a = 1',
    '\t\t     4 Quit\t',
  ];
  writeFileSync(file, `${log.join('\n')}\n`);
  const statements = await readStatements(file);
  rmSync(folder, { recursive: true });
  expect([...statements]).toEqual([
    'select get_lock(?…) as `taken`',
    'insert into `t` values (?…)',
    'select `t`.`id` from `t` where `t`.`id` in (?…)',
    'create trigger `writers_code_tasks_insert` after insert on `tasks` for each row set @a = ?',
  ]);
  expect(findForbidden(statements)).toEqual(['a lock by name: select get_lock(?…) as `taken`']);
  expect(findForbidden(['select `t`.`savepoint` from `t`', 'savepoint trx1'])).toEqual(['a savepoint: savepoint trx1']);
});
