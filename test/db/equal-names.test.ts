import { afterAll, beforeAll, expect, test } from 'vitest';
import { createFindUser } from '../../src/auth/user-lookup.ts';
import { createFindUserRights } from '../../src/auth/user-rights.ts';
import type { Database } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

// Coder has no two users or tasks of one name, but a copy of it may have them while it is compared with Coder anew.
describeOnServerKinds('of two that have one name, the first by id counts', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let organizations: Buffer[];
  let users: Buffer[];

  beforeAll(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
    organizations = [await insertOrganization(database, 'one'), await insertOrganization(database, 'other')];
    for (const id of organizations) await insertUser(database, { username: 'Jo', memberships: [[id, 'organization-admin']] });
    users = ((await database('users').select('id')) as { id: Buffer }[]).map(({ id }) => id).toSorted(Buffer.compare);
  });
  afterAll(() => test_.drop());

  const first = (): Buffer => users[0] as Buffer;
  async function membership(): Promise<Buffer> {
    const [row] = (await database('organization_members').where('user_id', first())) as [{ organization_id: Buffer }];
    return row.organization_id;
  }

  test('a user, with the memberships of that one alone', async () => {
    expect(await createFindUser(database)('jo')).toEqual({ id: first(), organizationIds: [await membership()] });
    const rights = await createFindUserRights(database)('jo');
    expect(rights?.userId).toEqual(first());
    expect(rights?.memberships.map(({ organizationId }) => organizationId)).toEqual([await membership()]);
    expect(await createNameLookup(database, 0).userId('jo')).toEqual(first());
  });

  test('a group of an organization', async () => {
    const ids = [newId(), newId()];
    const organization_id = organizations[0] as Buffer;
    await database('groups').insert(ids.map((id) => ({ id, organization_id, name: 'Team', avatar_url: '' })));
    expect((await createNameLookup(database, 0).group('team', 'one'))?.id).toEqual(ids.toSorted(Buffer.compare)[0]);
  });

  test('a task of a user', async () => {
    const ids: Buffer[] = [];
    for (let i = 0; i < 2; i++) ids.push((await insertRunningTask(database, { owner_id: first(), name: 'Twice' })).workspace);
    await projectAll(database);
    const repository = createTaskRepository(database, 30);
    const scope = { userId: first(), everything: true, organizations: [], ownIn: [], sharedWith: [], memberOf: [] };
    const task = await repository.getByName(scope, 'Jo', 'twice');
    expect(task?.id).toEqual(ids.toSorted(Buffer.compare)[0]);
  });
});
