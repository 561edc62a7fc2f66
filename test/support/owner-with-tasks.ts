import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { insertOrganization, insertUser } from './people.ts';
import { aTask, insertTasks } from './tasks.ts';

/** Somebody who has tasks, and may read them. */
export interface OwnerWithTasks {
  readonly token: string;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  /** In the order of the list: by name. */
  readonly tasks: readonly { readonly id: string; readonly name: string }[];
}

/** Writes a user with an organization, a token, and so many tasks whose prompts have so many characters. */
export async function insertOwnerWithTasks(
  database: Database,
  { tasks: count, promptLength = 10 }: { readonly tasks: number; readonly promptLength?: number },
): Promise<OwnerWithTasks> {
  const organizationId = await insertOrganization(database, 'acme');
  const ownerId = await insertUser(database, { username: 'someone', memberships: [[organizationId]] });
  const token = await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 86_400, name: 'test' });
  if (token === undefined) throw new Error('there is no token');
  const prompt = 'do '.repeat(Math.ceil(promptLength / 3)).slice(0, promptLength);
  const rows = Array.from({ length: count }, (_, i) =>
    aTask({ ownerId, organizationId, name: `task-${String(i).padStart(6, '0')}`, prompt }),
  );
  await insertTasks(database, rows);
  return {
    token,
    ownerId,
    organizationId,
    tasks: rows.map((row) => ({ id: formatUuid(row.id), name: row['name'] as string })),
  };
}
