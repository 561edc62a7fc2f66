import type { Database } from '../../src/db/connection.ts';

/** How many steps this session has made along an index. Looking up by key, and reading temporary tables, is not counted. */
export async function indexSteps(session: Database): Promise<number> {
  const [counters] = (await session.raw("show session status like 'Handler_read%'")) as [
    { Variable_name: string; Value: string }[],
  ];
  return counters
    .filter(({ Variable_name: name }) => name === 'Handler_read_next' || name === 'Handler_read_prev')
    .reduce((sum, { Value }) => sum + Number(Value), 0);
}
