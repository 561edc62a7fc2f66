import type { CoderDatabase } from './coder-database.ts';
import { copyTables } from './copy.ts';
import type { KeepCopy } from './sync.ts';
import { writeCopy } from './sync-state.ts';

/**
 * Copies everything once. The position of a replication or of polling is invalid afterwards, since it does not include this copy:
 * either begins with a copy of its own.
 */
export const copyOnce: KeepCopy = async (
  { coder, database, shape, scope, signal, onCopy, onProgress, onCopied },
  { epoch, copiedAt },
) => {
  onCopy(copiedAt === null ? 'nothing has been copied yet' : 'it was asked for');
  const source = await readSource(coder);
  await writeCopy(database, epoch, async () => ({ phase: 'copying', source, error: null }));
  const end = { mode: 'once' as const, source, coderVersion: shape.version };
  onCopied(await copyTables({ coder, database, epoch, shape, scope, end, onProgress, signal }));
};

/** Which database it is: the identifier of its server, where that may be read, and its name. */
export async function readSource(coder: CoderDatabase): Promise<string> {
  const [[name] = []] = await coder.rows('select current_database()');
  const identifier = await coder.rows('select system_identifier from pg_control_system()').catch(() => []);
  return `${identifier[0]?.[0] ?? 'unknown'} ${name ?? ''}`;
}
