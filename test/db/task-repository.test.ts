import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { closeDatabase, type Database, openDatabase, type SentStatement, withConnection } from '../../src/db/connection.ts';
import { readRows } from '../../src/db/read-rows.ts';
import { WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { Scope } from '../../src/tasks/scope.ts';
import { type ListOrder, positionOf } from '../../src/tasks/store/list-order.ts';
import type { TaskRow } from '../../src/tasks/store/tables.ts';
import type { TaskFilter } from '../../src/tasks/store/task-filter.ts';
import { createTaskRepository, type PageSelection, type TaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { measureRead } from '../support/measure-read.ts';
import { startServedEngine } from '../support/served-engine.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';

const orders: readonly ListOrder[] = [
  ...(['key', 'run', 'name', 'name desc', 'created_at', 'created_at desc', 'state_at', 'state_at desc'] as const),
];
const ordersOfAll = ['created_at', 'created_at desc', 'state_at', 'state_at desc'] as const;

/** What a scope says of a member of organizations, without groups. */
const memberOf = (organizations: readonly Buffer[]) => ({ ownIn: organizations, memberOf: organizations, sharedWith: [] });

describeOnEngines('the task repository', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let repository: TaskRepository;
  const sent: SentStatement[] = [];

  const home = newId();
  const elsewhere = newId();
  const owner = newId();
  const colleague = newId();
  const foreigner = newId();
  const common = newId();
  const rare = newId();

  const site: Scope = { userId: newId(), everything: true, organizations: [], ...memberOf([]) };
  const asOwner: Scope = { userId: owner, everything: false, organizations: [], ...memberOf([home]) };
  const asColleague: Scope = { userId: colleague, everything: false, organizations: [], ...memberOf([home]) };
  const asAdmin: Scope = { userId: colleague, everything: false, organizations: [home], ...memberOf([home]) };
  const asStranger: Scope = { userId: newId(), everything: false, organizations: [], ...memberOf([elsewhere]) };
  const asNobody: Scope = { userId: owner, everything: false, organizations: [], ...memberOf([]) };

  const statuses = Object.values(WorkspaceStatus).filter((status) => status > 0 && status !== WorkspaceStatus.DELETED);
  const tasks = Array.from({ length: 120 }, (_, i) => {
    const ownerId = i % 2 === 0 ? owner : i % 4 === 1 ? colleague : foreigner;
    const status = statuses[i % 7] as number;
    return aTask({
      ownerId,
      organizationId: ownerId === foreigner ? elsewhere : home,
      templateId: i % 30 === 0 ? rare : common,
      // Names collide when case is ignored nowhere, times collide in tens: the id has to break ties.
      name: `${i % 3 === 0 ? 'Task' : 'task'}-${String(i).padStart(3, '0')}`,
      status,
      waiting: status === WorkspaceStatus.RUNNING && i % 4 === 0,
      favorite: i % 11 === 0,
      deleted: i % 20 === 19,
      createdAt: `2026-01-01 00:00:00.${String(Math.floor(i / 10)).padStart(6, '0')}`,
      // Some have reported at the same time, and some have not reported.
      stateAt:
        status === WorkspaceStatus.PENDING || i % 13 === 0
          ? null
          : `2026-01-02 00:00:00.${String((i * 37) % 11).padStart(6, '0')}`,
    });
  });
  const idOf = (task: { id: unknown }) => (task.id as Buffer).toString('hex');
  const isLive = (task: Record<string, unknown>) => task['live'] === 1;
  const of = (...owners: Buffer[]) =>
    tasks.filter((task) => isLive(task) && owners.some((id) => id.equals(task['owner_id'] as Buffer)));

  beforeAll(async () => {
    test_ = await createTestDatabase(engine, { onStatement: (statement) => sent.push(statement) });
    database = test_.database;
    repository = createTaskRepository(database, 30);
    await insertTasks(database, tasks);
    await database.raw('analyze table workspace_tasks');
  });
  afterAll(() => test_.drop());

  /** Walks a list page by page and returns its rows. */
  async function walk(scope: Scope, filter: TaskFilter, order: ListOrder, pageSize: number): Promise<TaskRow[]> {
    const all: TaskRow[] = [];
    let after: PageSelection['after'];
    for (;;) {
      const question = { filter, order, limit: pageSize, ...(after === undefined ? {} : { after }) };
      const { rows, next } = await repository.list(scope, question);
      all.push(...rows);
      if (next === undefined) return all;
      expect(rows).toHaveLength(pageSize);
      expect(next).toEqual(positionOf(rows.at(-1) as TaskRow, order));
      after = next;
    }
  }

  /** The order of a list, by its definition. */
  function sorted(expected: typeof tasks, order: ListOrder): string[] {
    const key = (task: (typeof tasks)[number]): Buffer => {
      if (order === 'key') return task['own_key'] as Buffer;
      if (order === 'run') return task['run_key'] as Buffer;
      const first = order.startsWith('name')
        ? Buffer.concat([task['name_fold'] as Buffer, Buffer.of(0)])
        : Buffer.from(
            (task[order.startsWith('state_at') ? 'state_at' : 'created_at'] as string | null) ?? '0000-00-00 00:00:00.000000',
          );
      return Buffer.concat([first, task.id]);
    };
    const ascending = expected.toSorted((a, b) => Buffer.compare(key(a), key(b))).map(idOf);
    return order.endsWith('desc') ? ascending.reverse() : ascending;
  }

  describe('every page size from 1 to N + 1 gives each task exactly once, in order', () => {
    const lists: [string, Scope, TaskFilter, readonly ListOrder[], () => typeof tasks][] = [
      ['my tasks', asOwner, { ownerId: owner }, orders, () => of(owner)],
      ["another's tasks, as a site owner", site, { ownerId: colleague }, orders, () => of(colleague)],
      ['everyone, as a site owner', site, {}, ordersOfAll, () => of(owner, colleague, foreigner)],
      ['everyone, as an organization admin', asAdmin, {}, ordersOfAll, () => of(owner, colleague)],
      ['everyone, as a member', asColleague, {}, ordersOfAll, () => of(colleague)],
      [
        'my running tasks, waiting ones among them',
        asOwner,
        { ownerId: owner, status: WorkspaceStatus.RUNNING },
        orders,
        () => of(owner).filter((task) => task['status'] === WorkspaceStatus.RUNNING),
      ],
      [
        'running tasks of an organization',
        asAdmin,
        { status: WorkspaceStatus.RUNNING },
        ordersOfAll,
        () => of(owner, colleague).filter((task) => task['status'] === WorkspaceStatus.RUNNING),
      ],
    ];
    test.each(lists)('%s', async (_name, scope, filter, ordersOfList, expected) => {
      const count = expected().length;
      expect(count).toBeGreaterThan(3);
      for (const order of ordersOfList) {
        for (let pageSize = 1; pageSize <= count + 1; pageSize++) {
          const rows = await walk(scope, filter, order, pageSize);
          expect(rows.map(idOf), `${order}, ${pageSize} a page`).toEqual(sorted(expected(), order));
        }
      }
    });
  });

  describe('who sees what', () => {
    test.each<[string, Scope, TaskFilter, () => typeof tasks]>([
      ['a site owner sees all', site, {}, () => of(owner, colleague, foreigner)],
      ['an organization admin sees the organization', asAdmin, {}, () => of(owner, colleague)],
      ['an organization admin sees a member', asAdmin, { ownerId: owner }, () => of(owner)],
      ['an organization admin does not see another organization', asAdmin, { ownerId: foreigner }, () => []],
      ['a member sees their own', asColleague, {}, () => of(colleague)],
      ['a member does not see a colleague', asColleague, { ownerId: owner }, () => []],
      ['a stranger sees nothing', asStranger, {}, () => []],
      ['a stranger sees nothing of the owner', asStranger, { ownerId: owner }, () => []],
      ['an owner who left the organization sees nothing', asNobody, { ownerId: owner }, () => []],
    ])('%s', async (_name, scope, filter, expected) => {
      const { rows } = await repository.list(scope, { filter, order: 'created_at desc', limit: 200 });
      expect(rows.map(idOf)).toEqual(sorted(expected(), 'created_at desc'));
      expect(await repository.count(scope, filter, 1000)).toBe(rows.length);
      for (const task of tasks) {
        if (filter.ownerId !== undefined && !filter.ownerId.equals(task['owner_id'] as Buffer)) continue;
        const row = await repository.getById(scope, task.id);
        const byName = await repository.getByName(scope, task['owner_id'] as Buffer, (task['name'] as string).toUpperCase());
        const listed = rows.some(({ id }) => id.equals(task.id));
        if (isLive(task)) expect(row !== undefined, 'get agrees with list').toBe(listed);
        expect(byName !== undefined, 'get by name agrees with list').toBe(listed);
      }
    });

    test('tasks that are asked for at once, by everybody, are those that each gets alone', async () => {
      const scopes = [site, asOwner, asColleague, asAdmin, asStranger, asNobody];
      const asked = scopes.flatMap((scope) => tasks.map(({ id }) => ({ scope, id })));
      const together = await Promise.all(asked.map(({ scope, id }) => repository.getById(scope, id)));
      const alone: (TaskRow | undefined)[] = [];
      for (const { scope, id } of asked) alone.push(await repository.getById(scope, id));
      expect(together).toEqual(alone);
      expect(together.filter((row) => row !== undefined).length).toBeGreaterThan(tasks.length);
    });

    test('tasks that one caller asks for at once are read together, by their keys', async () => {
      const ids = of(owner).map(({ id }) => id);
      for (const count of [1, 2, 5, 16, 17]) {
        sent.length = 0;
        const rows = await Promise.all(ids.slice(0, count).map((id) => repository.getById(asOwner, id)));
        expect(rows.map((row) => row?.id)).toEqual(ids.slice(0, count));
        expect(sent).toHaveLength(count <= 16 ? 1 : 2);
      }
      expect(sent[0]?.sql).toContain('force index (`uq_id`)');
    });

    test('a token that is good for some tasks reads no others', async () => {
      const [mine, other] = of(owner);
      const [foreign] = of(foreigner);
      if (mine === undefined || other === undefined || foreign === undefined) throw new Error('no task');
      for (const scope of [site, asOwner]) {
        const narrow: Scope = { ...scope, onlyIds: [mine.id, foreign.id] };
        const expected = scope === site ? [mine.id, foreign.id] : [mine.id];
        const { rows } = await repository.list(narrow, { filter: {}, order: 'created_at', limit: 100 });
        expect(rows.map(idOf).toSorted()).toEqual(expected.map((id) => id.toString('hex')).toSorted());
        expect(await repository.count(narrow, {}, 100)).toBe(expected.length);
        expect(await repository.count(narrow, { ids: [mine.id, other.id] }, 100)).toBe(1);
        expect(await repository.getById(narrow, mine.id)).toBeDefined();
        expect(await repository.getById(narrow, other.id)).toBeUndefined();
        expect(await repository.getByName(narrow, owner, other['name'] as string)).toBeUndefined();
      }
      const nothing = await repository.list({ ...site, onlyIds: [] }, { filter: {}, order: 'created_at', limit: 100 });
      expect(nothing).toEqual({ rows: [] });
    });

    test('a deleted task can be got by its id by who could read it, and is not listed', async () => {
      const deleted = tasks.find((task) => !isLive(task) && !owner.equals(task['owner_id'] as Buffer));
      if (deleted === undefined) throw new Error('no deleted task');
      expect(await repository.getById(site, deleted.id)).toBeDefined();
      expect(await repository.getById(asStranger, deleted.id)).toBeUndefined();
    });
  });

  describe('what is shared', () => {
    const group = newId();
    const sharer = newId();
    const reader = newId();
    const shares: [string, { kind: 1 | 2; subject: Buffer } | undefined, Buffer][] = [
      ['to-the-user', { kind: 1, subject: reader }, home],
      ['to-the-user-elsewhere', { kind: 1, subject: reader }, elsewhere],
      ['to-the-group', { kind: 2, subject: group }, home],
      ['to-the-group-elsewhere', { kind: 2, subject: group }, elsewhere],
      ['to-everyone', { kind: 2, subject: home }, home],
      ['to-everyone-elsewhere', { kind: 2, subject: elsewhere }, elsewhere],
      ['to-another-user', { kind: 1, subject: owner }, home],
      ['to-nobody', undefined, home],
    ];
    const member: Scope = {
      userId: reader,
      everything: false,
      organizations: [],
      ownIn: [home],
      memberOf: [home],
      sharedWith: [
        { kind: 'user', id: reader },
        { kind: 'group', id: home },
        { kind: 'group', id: group },
      ],
    };
    const outsider: Scope = { ...member, ownIn: [], memberOf: [], sharedWith: [{ kind: 'user', id: reader }] };
    const ids = new Map<string, Buffer>();

    beforeAll(async () => {
      for (const [name, share, organizationId] of shares) {
        // The same moment for all: the id decides.
        const createdAt = '2027-06-01 00:00:00.000000';
        const shared = aTask({ ownerId: sharer, organizationId, name, createdAt });
        ids.set(name, shared.id);
        await insertTasks(database, [shared]);
        if (share === undefined) continue;
        await database('workspace_task_acl').insert({
          kind: share.kind,
          subject_id: share.subject,
          created_at: createdAt,
          task_id: shared.id,
          owner_id: sharer,
          organization_id: organizationId,
        });
      }
      // A task comes by several ways and is one task.
      await database('workspace_task_acl').insert({
        kind: 2,
        subject_id: group,
        created_at: '2027-06-01 00:00:00.000000',
        task_id: ids.get('to-the-user') as Buffer,
        owner_id: sharer,
        organization_id: home,
      });
    });
    afterAll(async () => {
      await database('workspace_tasks').where('workspace_tasks.owner_id', sharer).delete();
      await database('workspace_task_acl').delete();
    });

    const toMember = ['to-everyone', 'to-the-group', 'to-the-user', 'to-the-user-elsewhere'];
    test.each<[string, Scope, string[]]>([
      ['a member sees what is shared with them, their groups and everyone', member, toMember],
      ['who is a member of nothing sees what is shared with them alone', outsider, ['to-the-user', 'to-the-user-elsewhere']],
    ])('%s', async (_name, scope, expected) => {
      for (const filter of [
        {},
        { ownerId: sharer },
        { status: WorkspaceStatus.RUNNING },
        { ownerId: sharer, status: WorkspaceStatus.RUNNING },
      ]) {
        for (const order of ordersOfAll) {
          for (const pageSize of [1, 2, 3, 10]) {
            const rows = await walk(scope, filter, order, pageSize);
            const names = rows.map(({ name }) => name);
            expect(names.toSorted(), JSON.stringify({ filter, order, pageSize })).toEqual(expected);
            const sorted = rows.map(({ id }) => id.toString('hex')).toSorted();
            expect(rows.map(({ id }) => id.toString('hex'))).toEqual(order.endsWith('desc') ? sorted.toReversed() : sorted);
          }
        }
        expect(await repository.count(scope, filter, 100)).toBe(expected.length);
      }
      expect(await repository.count(scope, { status: WorkspaceStatus.FAILED }, 100)).toBe(0);
      for (const [name, id] of ids) {
        expect((await repository.getById(scope, id)) !== undefined, name).toBe(expected.includes(name));
        expect((await repository.getByName(scope, sharer, name)) !== undefined, name).toBe(expected.includes(name));
      }
      const together = await Promise.all([...ids.values()].map((id) => repository.getById(scope, id)));
      expect(together.flatMap((row) => row?.name ?? []).toSorted()).toEqual(expected);
    });

    test('who asks by whom tasks are shared with finds what they may read of it', async () => {
      const place = { created_at: '2027-06-01 00:00:00.000000', owner_id: sharer, organization_id: home };
      const named = { kind: 12, subject_id: group, task_id: ids.get('to-nobody') as Buffer, ...place };
      await database('workspace_task_acl').insert(named); // named by the ACL, without the right to read
      const admin: Scope = { ...member, userId: newId(), organizations: [home], sharedWith: [] };
      const toGroup = ['to-nobody', 'to-the-group', 'to-the-user'];
      const groupElsewhere = [...toGroup, 'to-the-group-elsewhere'].toSorted();
      try {
        for (const [scope, filter, expected] of [
          [site, { sharedWithGroupId: group }, groupElsewhere],
          [site, { sharedWithGroupId: group, organizationId: home }, toGroup],
          [site, { sharedWithGroupId: group, ownerId: sharer }, groupElsewhere],
          [site, { sharedWithGroupId: group, ownerId: owner }, []],
          [site, { sharedWithGroupId: group, ids: [ids.get('to-everyone') as Buffer] }, []],
          [admin, { sharedWithGroupId: group }, toGroup],
          [member, { sharedWithGroupId: group }, ['to-the-group', 'to-the-user']],
          [outsider, { sharedWithGroupId: group }, ['to-the-user']],
          [member, { sharedWithUserId: reader }, ['to-the-user', 'to-the-user-elsewhere']],
          [member, { sharedWithUserId: reader, status: WorkspaceStatus.FAILED }, []],
          [asStranger, { sharedWithUserId: reader }, []],
        ] as const) {
          const what = JSON.stringify([scope === site, filter]);
          for (const order of filter.ownerId === undefined ? ordersOfAll : orders) {
            const rows = await walk(scope, filter, order, 2);
            expect(rows.map(({ name }) => name).toSorted(), `${what}, ${order}`).toEqual(expected);
          }
          expect(await repository.count(scope, filter, 100), what).toBe(expected.length);
        }
      } finally {
        await database('workspace_task_acl').where('workspace_task_acl.kind', 12).delete();
      }
    });

    test.each([50, 100])('%d groups, which are a union or one walk, read the same', async (count) => {
      const many: Scope = {
        ...member,
        sharedWith: [...member.sharedWith, ...Array.from({ length: count }, () => ({ kind: 'group' as const, id: newId() }))],
      };
      for (const filter of [{}, { status: WorkspaceStatus.RUNNING }]) {
        const rows = await walk(many, filter, 'created_at desc', 2);
        expect(rows.map(({ name }) => name).toSorted()).toEqual(toMember);
      }
    });
  });

  describe('filters', () => {
    const list = async (filter: TaskFilter) =>
      (await repository.list(site, { filter, order: 'created_at', limit: 200 })).rows.map(({ name }) => name);

    test('name is a literal part, whatever the case', async () => {
      await insertTasks(
        database,
        ['50%-done', '50x-done', 'a_b', 'axb', 'back\\slash', "quo'te", 'ÄÖÜ-Straße'].map((name) =>
          aTask({ ownerId: owner, organizationId: newId(), name, createdAt: '2027-01-01 00:00:00.000000' }),
        ),
      );
      expect(await list({ name: '0%' })).toEqual(['50%-done']);
      expect(await list({ name: 'A_B' })).toEqual(['a_b']);
      expect(await list({ name: '\\' })).toEqual(['back\\slash']);
      expect(await list({ name: "quo'te" })).toEqual(["quo'te"]);
      expect(await list({ name: 'äöü-straße' })).toEqual(['ÄÖÜ-Straße']);
      expect(await list({ name: 'aou' })).toEqual([]);
      expect(await list({ name: 'DONE' })).toHaveLength(2);
      await database('workspace_tasks').where('workspace_tasks.created_at', '2027-01-01 00:00:00.000000').delete();
    });

    test('template is any of the ids', async () => {
      const rares = tasks.filter((task) => isLive(task) && rare.equals(task['template_id'] as Buffer));
      expect(await list({ templateIds: [rare] })).toHaveLength(rares.length);
      expect(await list({ templateIds: [rare, common] })).toHaveLength(of(owner, colleague, foreigner).length);
      expect(await list({ templateIds: [] })).toEqual([]);
      expect(await list({ templateIds: [rare], status: rares[0]?.['status'] as number })).not.toEqual([]);
    });

    test.each(statuses)('status %d', async (status) => {
      const expected = of(owner, colleague, foreigner).filter((task) => task['status'] === status);
      expect((await list({ status })).toSorted()).toEqual(expected.map(({ name }) => name as string).toSorted());
    });

    test('status deleted finds deleted ones, which nothing else does', async () => {
      const deleted = tasks.filter((task) => !isLive(task));
      expect((await list({ status: WorkspaceStatus.DELETED })).toSorted()).toEqual(
        deleted.map(({ name }) => name as string).toSorted(),
      );
    });

    test('all at once', async () => {
      const names = await list({ ownerId: owner, name: 'task-0', templateIds: [common], status: WorkspaceStatus.RUNNING });
      expect(names.length).toBeGreaterThan(0);
      expect(names.length).toBeLessThan((await list({ ownerId: owner })).length);
    });
  });

  test('a connection keeps the statements that were used last prepared, and closes others', async () => {
    const only = openDatabase(test_.address, { size: 1, statementTimeoutMs: 30_000 });
    try {
      const answer = async (number: number) => (await readRows(only, { sql: `select ${number}, ?`, values: ['x'] }))[0];
      for (let number = 0; number < 110; number++) expect(await answer(number)).toEqual([number, 'x']);
      expect(await answer(109)).toEqual([109, 'x']);
      expect(await answer(0)).toEqual([0, 'x']);
      const counted = await withConnection(
        only,
        undefined,
        (connection) =>
          new Promise((resolve, reject) => {
            const counts = "show session status where variable_name in ('Com_stmt_prepare', 'Com_stmt_close')";
            connection.query(counts, (error, rows) => (error ? reject(error as Error) : resolve(rows)));
          }),
      );
      expect(counted).toEqual([
        { Variable_name: 'Com_stmt_close', Value: '11' },
        { Variable_name: 'Com_stmt_prepare', Value: '111' },
      ]);
    } finally {
      await closeDatabase(only);
    }
  });

  test('a server that has no room for prepared statements is asked without them', async () => {
    // A server of its own: the limit is of all that is asked of a server.
    const { database, stop } = await startServedEngine(engine, { tasks: 3 });
    const [[{ most }]] = (await database.raw('select @@max_prepared_stmt_count as most')) as [[{ most: number }]];
    await database.raw('set global max_prepared_stmt_count = 0');
    try {
      const order = 'created_at desc';
      const question = { filter: { name: 'task-0', status: 3 }, order, limit: 100 } as const; // a statement of its own
      const { rows } = await createTaskRepository(database, 30).list(site, question);
      await database.raw('set global max_prepared_stmt_count = ?', [most]);
      expect(rows).toEqual((await createTaskRepository(database, 31).list(site, question)).rows);
      expect(rows).not.toEqual([]);
    } finally {
      await stop();
    }
  });

  describe('a task that vanishes while its page is read', () => {
    const writer = newId();
    const long = 1024 * 1024;
    const insert = (count: number) => {
      const some = Array.from({ length: count }, (_, i) => ({
        ...aTask({ ownerId: writer, organizationId: home, name: `vanishing-${String(i).padStart(3, '0')}` }),
        prompt: database.raw('repeat(?, ?)', ['p', long]),
        texts_bytes: long,
      }));
      return insertTasks(database, some).then(() => some.map(({ id }) => id));
    };
    afterEach(() => database('workspace_tasks').where('workspace_tasks.owner_id', writer).delete());

    /** Reads a page, and deletes tasks between its statement and the one for long texts. Says how many bytes the server has sent. */
    async function listWhileDeleting(limit: number, gone: readonly Buffer[]) {
      const only = openDatabase(test_.address, { size: 1, statementTimeoutMs: 30_000 });
      const sent = async () => {
        const [[row]] = (await only.raw("show session status like 'Bytes_sent'")) as [[{ Value: string }]];
        return Number(row.Value);
      };
      try {
        const before = await sent();
        const reads = createTaskRepository(only, 30);
        // Who waits for the one connection gets it in turn: the page, the deletion, and the long texts.
        const [page] = await withConnection(only, undefined, async () => {
          const listing = reads.list(asOwnerOf(writer), { filter: { ownerId: writer }, order: 'name', limit });
          await sleep(20);
          const deleting = only('workspace_tasks').whereIn('workspace_tasks.id', gone).delete();
          const all = Promise.all([listing, deleting]);
          await sleep(20);
          return { all };
        }).then(({ all }) => all);
        return { page, bytes: (await sent()) - before };
      } finally {
        await closeDatabase(only);
      }
    }
    const asOwnerOf = (userId: Buffer): Scope => ({ ...asOwner, userId });

    test('is left out, and the page is not read again with all texts of its list', async () => {
      const [first, second, ...others] = await insert(12);
      if (first === undefined || second === undefined) throw new Error('no task');
      const { page, bytes } = await listWhileDeleting(200, [first]);
      expect(page.rows.map(({ id, prompt }) => [id, prompt.length])).toEqual([[second, long]]);
      expect(bytes).toBeLessThan(2 * long);
      // The next page goes on where the list was, and each of the others is in one page.
      const rest = await walkFrom(page.next);
      expect(rest.map(({ id }) => id)).toEqual(others);
    });

    test('does not end the list when all of the page are gone', async () => {
      const [first, second, third, ...others] = await insert(4);
      if (first === undefined || second === undefined || third === undefined) throw new Error('no task');
      const { page } = await listWhileDeleting(2, [first, second]);
      expect(page.rows).toEqual([]);
      expect((await walkFrom(page.next)).map(({ id }) => id)).toEqual([third, ...others]);
    });

    async function walkFrom(next: PageSelection['after']): Promise<TaskRow[]> {
      const rows: TaskRow[] = [];
      for (let after = next; after !== undefined; ) {
        const page = await repository.list(asOwnerOf(writer), { filter: { ownerId: writer }, order: 'name', limit: 200, after });
        rows.push(...page.rows);
        after = page.next;
      }
      return rows;
    }
  });

  test('the total stops at its limit, and counts a task once however many ways lead to it', async () => {
    expect(await repository.count(asAdmin, {}, 7)).toBe(7);
    expect(await repository.count(asAdmin, {}, 1000)).toBe(of(owner, colleague).length);
    expect(await repository.count(asAdmin, { status: WorkspaceStatus.RUNNING }, 1000)).toBe(
      of(owner, colleague).filter((task) => task['status'] === WorkspaceStatus.RUNNING).length,
    );
  });

  test('a scope of more branches than a union is worth reads the same tasks', async () => {
    const many: Scope = {
      userId: colleague,
      everything: false,
      organizations: [home, ...Array.from({ length: 70 }, newId)],
      ...memberOf([home]),
    };
    const rows = await walk(many, {}, 'created_at desc', 7);
    expect(rows.map(idOf)).toEqual(sorted(of(owner, colleague), 'created_at desc'));
    expect(await repository.count(many, {}, 1000)).toBe(rows.length);
  });

  describe('each list reads its rows by its index, and one row more', () => {
    const count = 3000;
    const bigOwner = newId();
    const bigHome = newId();
    /** A scope as real callers have it: with what is shared with them, their organization and a group. */
    const real = (userId: Buffer, organizations: readonly Buffer[]): Scope => ({
      userId,
      everything: false,
      organizations,
      ownIn: [bigHome],
      memberOf: [bigHome],
      sharedWith: [
        { kind: 'user', id: userId },
        { kind: 'group', id: bigHome },
        { kind: 'group', id: newId() },
      ],
    });
    const asBig = real(bigOwner, []);
    const asBigAdmin = real(newId(), [bigHome]);

    beforeAll(async () => {
      const big = Array.from({ length: count }, (_, i) =>
        aTask({
          ownerId: bigOwner,
          organizationId: bigHome,
          status: i % 100 === 0 ? WorkspaceStatus.FAILED : WorkspaceStatus.RUNNING,
          waiting: i % 100 !== 0 && i % 10 === 1,
          favorite: i % 50 === 0,
          createdAt: `2028-01-01 00:00:00.${String(i).padStart(6, '0')}`,
          stateAt: i % 7 === 0 ? null : `2028-01-02 00:00:00.${String((i * 7919) % count).padStart(6, '0')}`,
        }),
      );
      await insertTasks(database, big);
      await database.raw('analyze table workspace_tasks');
    });
    afterAll(() => database('workspace_tasks').where('workspace_tasks.owner_id', bigOwner).delete());

    const failed = WorkspaceStatus.FAILED;
    test.each<[string, Scope, TaskFilter, ListOrder, index: string]>([
      ['one owner, favorites first', asBig, { ownerId: bigOwner }, 'key', 'own_key'],
      ['one owner, running first', site, { ownerId: bigOwner }, 'run', 'own_run'],
      ['one owner, by name', asBig, { ownerId: bigOwner }, 'name', 'own_name'],
      ['one owner, by name, last first', asBig, { ownerId: bigOwner }, 'name desc', 'own_name'],
      ['one owner, oldest first', asBig, { ownerId: bigOwner }, 'created_at', 'own_ct'],
      ['one owner, newest first', asBig, { ownerId: bigOwner }, 'created_at desc', 'own_ct'],
      ['one owner and status, favorites first', asBig, { ownerId: bigOwner, status: failed }, 'key', 'own_st_key'],
      ['one owner and status, running first', site, { ownerId: bigOwner, status: failed }, 'run', 'own_st_run'],
      ['one owner and status, newest first', asBig, { ownerId: bigOwner, status: failed }, 'created_at desc', 'own_st_ct'],
      ['one organization, newest first', asBigAdmin, {}, 'created_at desc', 'org_ct'],
      ['one organization and status, newest first', asBigAdmin, { status: failed }, 'created_at desc', 'org_st_ct'],
      ['everyone, newest first', site, {}, 'created_at desc', 'all_ct'],
      ['everyone, oldest first', site, {}, 'created_at', 'all_ct'],
      ['everyone and status, newest first', site, { status: failed }, 'created_at desc', 'all_st_ct'],
      ['one owner, waiting for input, favorites first', asBig, { ownerId: bigOwner, waiting: true }, 'key', 'own_st_key'],
      ['one owner, waiting for input, newest first', asBig, { ownerId: bigOwner, waiting: true }, 'created_at desc', 'own_st_ct'],
      ['one organization, waiting for input', asBigAdmin, { waiting: true }, 'created_at desc', 'org_st_ct'],
      ['everyone, waiting for input', site, { waiting: true }, 'created_at desc', 'all_st_ct'],
      ['one organization of many', site, { organizationId: bigHome }, 'created_at desc', 'org_ct'],
      ['one organization of one who reads it', asBigAdmin, { organizationId: bigHome }, 'created_at desc', 'org_ct'],
      [
        'one organization of one who reads it, waiting',
        asBigAdmin,
        { organizationId: bigHome, waiting: true },
        'created_at',
        'org_st_ct',
      ],
      ['one organization of many and status', site, { organizationId: bigHome, status: failed }, 'created_at desc', 'org_st_ct'],
      ['one organization of many, waiting', site, { organizationId: bigHome, waiting: true }, 'created_at desc', 'org_st_ct'],
      ['one owner, waiting for input, running first', site, { ownerId: bigOwner, waiting: true }, 'run', 'own_st_run'],
      ['one owner and status, oldest first', asBig, { ownerId: bigOwner, status: failed }, 'created_at', 'own_st_ct'],
      ['one organization, oldest first', asBigAdmin, {}, 'created_at', 'org_ct'],
      ['everyone and status, oldest first', site, { status: failed }, 'created_at', 'all_st_ct'],
      ...(['state_at', 'state_at desc'] as const).flatMap((order): [string, Scope, TaskFilter, ListOrder, string][] => [
        [`one owner, ${order}`, asBig, { ownerId: bigOwner }, order, 'own_st_sa'],
        [`one owner and status, ${order}`, asBig, { ownerId: bigOwner, status: failed }, order, 'own_st_sa'],
        [`one owner, waiting, ${order}`, asBig, { ownerId: bigOwner, waiting: true }, order, 'own_st_sa'],
        [`one organization, ${order}`, asBigAdmin, { organizationId: bigHome }, order, 'org_st_sa'],
        [`one organization and status, ${order}`, asBigAdmin, { organizationId: bigHome, status: failed }, order, 'org_st_sa'],
        [`one organization, waiting, ${order}`, asBigAdmin, { organizationId: bigHome, waiting: true }, order, 'org_st_sa'],
        [`everyone, ${order}`, site, {}, order, 'all_st_sa'],
        [`everyone and status, ${order}`, site, { status: failed }, order, 'all_st_sa'],
        [`everyone, waiting, ${order}`, site, { waiting: true }, order, 'all_st_sa'],
      ]),
    ])('%s', async (_name, scope, filter, order, index) => {
      const limit = 10;
      // Who is an admin of one organization may have something shared with them from another.
      const isUnion = scope === asBigAdmin && filter.organizationId === undefined;
      // By the time of the state, what has any status is a union of all statuses.
      const ofAllStatuses = order.startsWith('state_at') && filter.status === undefined && filter.waiting === undefined;
      const first = await repository.list(scope, { filter, order, limit });
      expect(first.rows).toHaveLength(limit);
      if (first.next === undefined) throw new Error('no next page');
      for (const after of [undefined, first.next]) {
        const question: PageSelection = { filter, order, limit, ...(after === undefined ? {} : { after }) };
        const { plan, read } = await explain(scope, question);
        const used = plan.filter(({ table }) => table === 't').map(({ key }) => key);
        expect(used, JSON.stringify(plan)).toContain(index);
        expect(
          // A union sorts what its branches gave: at most a page for each.
          plan.every(({ extra }) => !/filesort/i.test(extra) || isUnion || filter.waiting === true || ofAllStatuses),
          JSON.stringify(plan),
        ).toBe(true);
        // What a list walks along its index is its page and one row more, at most from each of the twelve values of `list_status`.
        const most = (limit + 1) * (ofAllStatuses ? 12 : 1);
        expect(read, `rows walked, ${after === undefined ? 'first' : 'next'} page`).toBeLessThanOrEqual(most);
        if (ofAllStatuses) expect(plan.filter(({ key, extra }) => key === index && !/using index/i.test(extra))).toEqual([]);
      }
    });

    const nobodyHas = WorkspaceStatus.PENDING;
    test.each<[string, Scope, TaskFilter, ListOrder]>([
      ['one owner', asBig, { ownerId: bigOwner, status: nobodyHas }, 'key'],
      ['one organization', site, { organizationId: bigHome, status: nobodyHas }, 'created_at desc'],
      ['a member with groups', asBig, { organizationId: bigHome, status: nobodyHas }, 'created_at desc'],
    ])('a status that nobody has reads nothing: %s', async (_name, scope, filter, order) => {
      const { read } = await explain(scope, { filter, order, limit: 25 });
      expect(read).toBe(0);
    });

    test('a template that few tasks have reads those', async () => {
      const few = newId();
      const some = Array.from({ length: 12 }, () => aTask({ ownerId: bigOwner, organizationId: bigHome, templateId: few }));
      await insertTasks(database, some);
      try {
        for (const [scope, filter] of [
          [site, {}],
          [site, { organizationId: bigHome }],
          [asBigAdmin, {}],
        ] as const) {
          const question: PageSelection = { filter: { ...filter, templateIds: [few] }, order: 'created_at desc', limit: 25 };
          expect((await repository.list(scope, question)).rows).toHaveLength(12);
          expect((await explain(scope, question)).read).toBeLessThanOrEqual(2 * 12);
        }
      } finally {
        await database('workspace_tasks').where('workspace_tasks.template_id', few).delete();
      }
    });

    test('a part of a name that nobody has reads nothing, whatever the list', async () => {
      await database.raw('update `workspace_tasks` set `name_indexed` = `name_fold`'); // as if all were indexed
      try {
        const named = { name: 'nobody-is-called-so' };
        for (const [scope, filter, order] of [
          [site, named, 'created_at desc'],
          [site, { ...named, organizationId: bigHome }, 'created_at desc'],
          [asBigAdmin, named, 'created_at desc'],
          [asBig, { ...named, ownerId: bigOwner }, 'key'],
          [asBig, { ...named, ownerId: bigOwner, status: failed }, 'name desc'],
        ] as const) {
          const question: PageSelection = { filter, order, limit: 25 };
          expect((await explain(scope, question)).read, JSON.stringify(filter)).toBe(0);
        }
      } finally {
        await database.raw("update `workspace_tasks` set `name_indexed` = ''");
      }
    });

    test('a name of parts that many have, but nobody together, is looked for among these parts', async () => {
      await database.raw('update `workspace_tasks` set `name_indexed` = `name_fold`');
      const having = (parts: readonly string[]) => {
        const task = { owner_id: newId(), task_id: newId() };
        return parts.map((part) => ({ ...task, trigram: Buffer.from(part) }));
      };
      const many = Array.from({ length: 4000 });
      const rows = [
        ...many.flatMap(() => having(['qqx'])),
        ...many.flatMap(() => having(['qxx'])),
        ...many.flatMap(() => having(['zzw', 'zww'])),
      ];
      await database.batchInsert('workspace_task_trigrams', rows, 1000);
      await database.raw('analyze table workspace_task_trigrams');
      try {
        for (const filter of [{}, { organizationId: bigHome }, { ownerId: bigOwner }]) {
          const apart = await explain(site, { filter: { ...filter, name: 'qqxx' }, order: 'created_at desc', limit: 25 });
          expect(apart.plan.map(({ table }) => table)).toEqual(expect.arrayContaining(['s0', 's1']));
          expect(apart.read).toBeLessThanOrEqual('ownerId' in filter ? 0 : many.length);
          const together = await explain(site, { filter: { ...filter, name: 'zzww' }, order: 'created_at desc', limit: 25 });
          expect(together.plan.map(({ table }) => table)).not.toContain('s0');
        }
      } finally {
        await database('workspace_task_trigrams').delete();
        await database.raw("update `workspace_tasks` set `name_indexed` = ''");
      }
    });

    test('fifty groups with which nothing is shared cost no rows', async () => {
      const groups = Array.from({ length: 50 }, () => ({ kind: 'group' as const, id: newId() }));
      const scope: Scope = { ...asBig, sharedWith: [...asBig.sharedWith, ...groups] };
      const { read } = await explain(scope, { filter: {}, order: 'created_at desc', limit: 25 });
      expect(read).toBeLessThanOrEqual(26);
    });

    describe('what is shared', () => {
      const crowd = newId(); // all tasks are shared with it,
      const few = newId(); // and twelve with it
      const groups = Array.from({ length: 50 }, newId); // and sixty with each of these
      const other = newId(); // an owner of twelve of all
      beforeAll(async () => {
        const others = Array.from({ length: 12 }, (_, i) =>
          aTask({
            ownerId: other,
            organizationId: bigHome,
            status: WorkspaceStatus.RUNNING,
            createdAt: `2028-01-01 00:00:01.${String(i).padStart(6, '0')}`,
          }),
        );
        await insertTasks(database, others);
        const all = (await database('workspace_tasks')
          .whereIn('workspace_tasks.owner_id', [bigOwner, other])
          .orderBy('workspace_tasks.created_at')
          .select('workspace_tasks.id as task_id', 'workspace_tasks.owner_id', 'workspace_tasks.created_at')) as object[];
        const rows = all.flatMap((task, i) =>
          [crowd, bigHome, ...(i % 251 === 0 ? [few] : []), groups[i % 50] as Buffer].map((subject_id) => ({
            ...task,
            organization_id: bigHome,
            kind: 2,
            subject_id,
          })),
        );
        await database.batchInsert('workspace_task_acl', rows, 1000);
        await database.raw('analyze table workspace_tasks, workspace_task_acl');
      });
      afterAll(async () => {
        await database('workspace_tasks').where('workspace_tasks.owner_id', other).delete();
        await database('workspace_task_acl').delete();
      });

      const limit = 25;
      const rows = limit + 1;
      /** A member of fifty groups and of an organization, with whose group Everyone all tasks are shared. */
      const asMember: Scope = {
        ...real(newId(), []),
        sharedWith: [
          { kind: 'user', id: newId() },
          { kind: 'group', id: bigHome },
          ...groups.map((id) => ({ kind: 'group' as const, id })),
        ],
      };
      const newest = 'created_at desc';
      test.each<[string, Scope, TaskFilter, ListOrder, most: number]>([
        ['a group with which very many are', site, { sharedWithGroupId: crowd }, newest, rows],
        ['the same, oldest first', site, { sharedWithGroupId: crowd }, 'created_at', rows],
        ['the same in one organization', site, { sharedWithGroupId: crowd, organizationId: bigHome }, newest, rows],
        ['a group with which few are', site, { sharedWithGroupId: few }, newest, 12],
        ['the same of a status that nobody has', site, { sharedWithGroupId: few, status: nobodyHas }, newest, 12],
        ['the same of one owner', site, { sharedWithGroupId: few, ownerId: bigOwner }, 'run', 12],
        ['very many, of an owner of few', site, { sharedWithGroupId: crowd, ownerId: other }, 'run', 3 * 12],
        ['what is shared by name with one of fifty groups', asMember, { sharedWithUserId: asMember.userId }, newest, 0],
        ['a group, to whom reads by it', asMember, { sharedWithGroupId: groups[0] as Buffer }, newest, 4 * 61],
        ['all that one of fifty groups may read', asMember, {}, newest, 51 * rows],
      ])('%s', async (_name, scope, filter, order, most) => {
        const { read, plan } = await explain(scope, { filter, order, limit });
        expect(read, JSON.stringify(plan)).toBeLessThanOrEqual(most);
      });

      test('all that one may read by fifty groups is found without looking at the tasks themselves', async () => {
        const { plan } = await explain(asMember, { filter: {}, order: newest, limit });
        expect(plan.filter(({ table }) => table === 't')).toHaveLength(2); // one's own, and the rows of the page
      });

      test.each<[string, TaskFilter, most: number]>([
        ['its page', {}, rows],
        ['a status that nobody has', { status: nobodyHas }, 0],
        ['a template that nobody uses', { templateIds: [newId()] }, 0],
      ])('of an organization that is read as a whole, none of the sharing is read: %s', async (_name, filter, most) => {
        const admin: Scope = { ...asMember, organizations: [bigHome] };
        const question = { filter: { ...filter, organizationId: bigHome }, order: newest, limit } as const;
        const { read, plan } = await explain(admin, question);
        expect(read).toBeLessThanOrEqual(most);
        expect(plan.filter(({ table }) => table === 's')).toEqual([]);
      });
    });

    test('a page in the middle reads no more than the first', async () => {
      const order = 'created_at desc';
      const deep = { filter: { ownerId: bigOwner }, order, limit: 25 } as const;
      const [row] = await database('workspace_tasks')
        .where({ owner_id: bigOwner, created_at: '2028-01-01 00:00:00.000100' })
        .select('id', 'created_at', database.raw('null as sort_key'));
      const first = await explain(asBig, deep);
      const later = await explain(asBig, { ...deep, after: positionOf(row as TaskRow, order) });
      expect(later.read).toBeLessThanOrEqual(first.read + 2);
    });

    /** The plan of a list, and how many rows reading it walked to. */
    async function explain(scope: Scope, selection: PageSelection) {
      const { plan, steps } = await measureRead(engine, test_.address, (tasks) => tasks.list(scope, selection));
      return { plan: plan.map(({ table, key, Extra }) => ({ table, key, extra: Extra ?? '' })), read: steps };
    }
  });
});
