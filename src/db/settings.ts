import type { Database } from './connection.ts';

/**
 * The key that authenticates page tokens, as a migration stored it, so that all processes of the service agree.
 *
 * @throws {Error} when the database has no key, which means that it is not migrated.
 */
export async function readPageTokenKey(database: Database): Promise<Buffer> {
  const [row] = (await database
    .from('service_settings')
    .where('service_settings.name', 'page_token_key')
    .select('service_settings.value')) as { value: Buffer }[];
  if (row === undefined) throw new Error('service_settings has no page_token_key');
  return row.value;
}
