import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { inputsOfSql } from '../support/sql-texts.ts';

/** What stands in a statement and is not constant within its file, and why no caller can choose it. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  // The statements of the file, one after another.
  'migrations/20261123000001_create_source_tables.js': ['statement'],
  'migrations/20261123000002_create_read_model.js': ['statement'],
  // The tables and keys of the file.
  'migrations/20261201000001_prepare_copies_of_coder.js': ['table', "changes.join(', ')"],
  'migrations/20261202000001_create_tasks.js': ['statement'],
  // What a new connection is set to: the constants of the file and numbers of the settings. And the end of a statement by its number.
  'src/db/session.ts': ['sql'],
  // A statement that an administrator reads and runs.
  'src/schema/grants.ts': ['account'],
  // The statements of the file.
  'src/schema/migrations.ts': ['statement'],
  // The statements of src/sync, which are made of the tables and columns of synced-tables.ts, with their values beside them.
  'src/sync/changed-rows.ts': [
    'columns',
    'quote(table.name)',
    "sources.map((source) => `t.${quote(source)}`).join(', ')",
    'plan.select.slice(from)',
  ],
  'src/sync/coder-database.ts': ["{ text: sql, values: [...values], rowMode: 'array' }"],
  'src/sync/compare-tables.ts': [
    "plan.sources.map((source) => `t.${quote(source)}`).join(', ')",
    'quote(table.name)',
    'order',
    'this.#size',
    'list',
    'table.name',
    'where',
    'end',
  ],
  'src/sync/poll.ts': ['quote(name)', 'name', "only === undefined ? '' : ` where ${only}`"],
  'src/sync/source-version.ts': ["sources.map((source) => `t.${quote(source)}`).join(', ')", 'quote(name)', "order.join(', ')"],
  'src/sync/target-tables.ts': [
    'table.name',
    'condition',
    "table.only === undefined ? '' : ` where ${table.only}`",
    'kind',
    'name',
    'key',
    "only === undefined ? '' : ` and \\`${name}\\`.\\`${only[0]}\\` = ?`",
    'names',
    'end',
    'list',
  ],
  'src/sync/change-buffer.ts': ['table.name', "table.key.map((column) => `\\`${column}\\` = ?`).join(', ')", 'condition'],
  'src/sync/unreplicated-tables.ts': ['quote(name)', "[...marks, 'pg_current_wal_flush_lsn()'].join(', ')"],
  // Statements that an operator reads and runs: the tables of synced-tables.ts, the names in quotes, and a slot whose name was checked.
  'src/sync/publication.ts': ['listed(tables.map(({ name }) => name))', 'user', 'table', 'names.slot'],
  'src/sync/replication-standing.ts': ['slot'],
  // A constant of src/sync/coder-database.ts.
  'src/sync/replication.ts': ['textSettings'],
  // A constant of src/schema/triggers.ts.
  'src/sync/copy.ts': ['outboxBypass'],
  // Columns of the file, and whether the row is locked.
  'src/sync/sync-state.ts': ["[...sets, '`changed_at` = utc_timestamp(6)'].join(', ')", 'lock'],
  // A constant, so often.
  'src/tasks/store/name-trigrams.ts': ['` union all ${countOne}`.repeat(unknown.length - 1)'],
  // One of two words, `?` so often, a select made of both, a statement of the file, and one of two tables.
  'src/schema/outbox.ts': ['direction', "' union all select ?'.repeat(changes.length - 1)", 'numbers', 'owners[kind]', 'table'],
  // What Knex has built, with its values beside it.
  'src/db/read-rows.ts': ['options'],
  // Made of the tables and columns of src/schema/projected-tables.ts.
  'src/schema/triggers.ts': ['statement', 'kind', 'row', 'key'],
  // A constant of src/schema/triggers.ts.
  'dev/demo/generate.ts': ['outboxBypass'],
  // The update of one column, which two files name.
  'src/db/packet-limit.ts': ['update'],
  // One of the columns that the file names; `?` so often, and a select made of these.
  'src/projection/read-model.ts': ['column', 'more.repeat(part.length - 1)', 'gone'],
  // A constant of src/schema/projected-tables.ts, and the statement that has it.
  'src/projection/task-facts.ts': [
    'workspaceColumns',
    'workspaceJoins',
    'promptParameter',
    'promptParameter.length',
    'taskFactsSql',
  ],
  // Constants of src/projection/task-facts.ts and workspace-facts.ts, and the statement that has them.
  'src/projection/table-tasks.ts': ['promptFactBytes', 'workspaceColumns', 'workspaceJoins', 'tableTasksSql'],
  // One of two statements of the file.
  'src/projection/text-sizes.ts': ['sizesOf[source].sql'],
};

const files = globSync(['src/**/*.ts', 'dev/**/*.ts', 'migrations/*.js']).filter((file) => !file.startsWith('src/gen/'));

test('statements have nothing in their texts but constants, and what is listed here', () => {
  const found = Object.fromEntries(
    files
      .map((file) => [file, [...new Set(inputsOfSql(readFileSync(file, 'utf8')))]])
      .filter(([, inputs]) => (inputs as string[]).length > 0),
  );
  expect(files.length).toBeGreaterThan(100);
  expect(found).toEqual(allowed);
});

test.each([
  ['database.raw(`select ${column} from t`)', ['column']],
  ["database.raw('select ' + column)", ['column']],
  ['query.whereRaw(`t.name = ${name}`)', ['name']],
  ['query.orderByRaw(order)', ['order']],
  ['connection.query(sql)', ['sql']],
  ['const sql = `select * from t where id = ${id}`;', ['id']],
  ['const part = "order by " + key;', ['key']],
  ['const f = (name) => database.raw(`x = ${name}`); const g = () => { const name = "a"; };', ['name']],
  ['let name = "a"; database.raw(`select ${name}`)', ['name']],
  ["import { name } from './other.ts'; database.raw(`select ${name}`)", ['name']],
  ['const names = request.names; database.raw(`select ${names.map((n) => n).join()}`)', ['names.map((n) => n).join()']],
  ['database.raw(`select ${wanted ? "a" : other}`)', ['wanted ? "a" : other']],
])('what is not constant is found: %s', (code, inputs) => {
  expect(inputsOfSql(code)).toEqual(inputs);
});

test.each([
  "database.raw('select ?', [name])",
  'const limit = 5; database.raw(`select 1 limit ${limit}`, [name])',
  'const names = ["a", "b"]; database.raw(`select ${names.map((name) => `t.${name}`).join(", ")}`)',
  'database.raw(`a ${down ? "<" : ">"} ?`, [key])',
  'const tables = { a: "select 1", b: "select 2" }; const f = (kind) => database.raw(tables[kind])',
  'console.log(`${count} tasks were read`)',
])('what is constant is not: %s', (code) => {
  expect(inputsOfSql(code)).toEqual([]);
});
