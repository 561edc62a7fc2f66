import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase, type SentStatement } from '../../src/db/connection.ts';
import { createTaskRepository, type TaskRepository } from '../../src/tasks/store/task-repository.ts';
import type { Engine } from './engines.ts';

/** How a statement reads one of its tables: a row of EXPLAIN. */
interface PlanStep {
  readonly table: string | null;
  readonly type: string | null;
  readonly key: string | null;
  readonly Extra: string | null;
}

/**
 * Reads by one statement, and returns its plan, and how many steps it made along indexes. It is read twice: names are counted
 * once, and are not part of what is measured.
 */
export async function measureRead(
  engine: Engine,
  address: DatabaseAddress,
  read: (tasks: TaskRepository) => Promise<unknown>,
): Promise<{ readonly plan: readonly PlanStep[]; readonly steps: number }> {
  const sent: SentStatement[] = [];
  // One connection: the counters are the session's.
  const only = openDatabase(address, { size: 1, statementTimeoutMs: 30_000, onStatement: (statement) => sent.push(statement) });
  try {
    const tasks = createTaskRepository(only, 30);
    await read(tasks);
    const before = await indexSteps(only);
    sent.length = 0;
    await read(tasks);
    const [statement, ...more] = sent.splice(0);
    const steps = (await indexSteps(only)) - before;
    if (statement === undefined || more.length > 0) throw new Error(`${more.length + 1} statements, not one`);
    // MySQL would answer with a tree.
    const explaining = engine === 'mysql' ? 'explain format=traditional' : 'explain';
    const [plan] = (await only.raw(`${explaining} ${statement.sql}`, statement.values as never)) as [PlanStep[]];
    return { plan, steps };
  } finally {
    await closeDatabase(only);
  }
}

/** How many steps this session has made along an index. Looking up by key, and reading temporary tables, is not counted. */
async function indexSteps(session: Database): Promise<number> {
  const [counters] = (await session.raw("show session status like 'Handler_read%'")) as [
    { Variable_name: string; Value: string }[],
  ];
  return counters
    .filter(({ Variable_name: name }) => name === 'Handler_read_next' || name === 'Handler_read_prev')
    .reduce((sum, { Value }) => sum + Number(Value), 0);
}
