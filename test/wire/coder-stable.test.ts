import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { invalidArgument, taskNotFound } from '../../src/call/errors.ts';
import {
  GetTaskResponseSchema,
  type ListTasksRequest,
  ListTasksResponseSchema,
  TaskPhase,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { listOf, stableTask } from '../support/coder-sdk.ts';
import { signedIn, startTestServer, type TestServer, testCaller } from '../support/test-server.ts';

const root = '/api/v2/tasks';
const taskId = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
const ids = { organizationId: taskId, ownerId: taskId, templateId: taskId, templateVersionId: taskId };
const task = { ...ids, id: taskId, name: 'one', phase: TaskPhase.ACTIVE };
const notFound = { message: 'Resource not found or you do not have access to this resource' };

describe('/api/v2/tasks on the web port', () => {
  let server: TestServer;
  const listed: Pick<ListTasksRequest, 'query' | 'orderBy'>[] = [];
  const options: unknown[] = [];
  let total = 1;

  beforeAll(async () => {
    server = await startTestServer({
      findUser: (user) =>
        Promise.resolve(user === 'bob' ? { id: Buffer.alloc(16, 7), organizationIds: [Buffer.alloc(16, 8)] } : undefined),
      authenticate: (header) => ({ ...testCaller, roles: header('x-role') === 'owner' ? ['owner'] : [] }),
      handlers: {
        listTasks({ query, orderBy, pageSize, includeTotalSize }, _call, given) {
          listed.push({ query, orderBy });
          if (query.includes('nowhere')) {
            throw invalidArgument([{ field: 'organization', description: 'is none (at position 0)' }], 'INVALID_QUERY');
          }
          options.push(given);
          return Promise.resolve(
            create(ListTasksResponseSchema, {
              tasks: Array.from({ length: Math.min(total, pageSize) }, () => task),
              nextPageToken: total > pageSize ? 'more' : '',
              ...(includeTotalSize ? { totalSize: Math.min(total, 10_000), totalSizeCapped: total > 10_000 } : {}),
            }),
          );
        },
        getTask({ identifier }) {
          if (identifier.case === 'id' && identifier.value !== taskId) throw taskNotFound();
          const name = identifier.case === 'name' ? `${identifier.value.owner} ${identifier.value.name}` : 'by id';
          if (name.endsWith('nothing')) throw taskNotFound();
          const status = name.endsWith('deleted') ? WorkspaceStatus.DELETED : WorkspaceStatus.RUNNING;
          return Promise.resolve(create(GetTaskResponseSchema, { task: { ...task, name, status } }));
        },
      },
    });
  });
  afterAll(() => server.stop());

  const ask = async (path: string, { method = 'GET', headers = {} as Record<string, string> } = {}) => {
    const response = await fetch(`http://${server.web}${root}${path}`, { method, headers: { ...signedIn, ...headers } });
    const text = await response.text();
    return { status: response.status, body: (text === '' ? undefined : JSON.parse(text)) as Record<string, unknown> };
  };

  test.each([
    ['', ''],
    ['/', ''],
    ['?q=', ''],
    ['?limit=1&offset=7&after_id=x', ''],
    ['?q=owner%3A%22me%22', `owner:9e9b9475-0fc0-47b2-9170-a5b7b9a075ee`],
    ['?q=Developer', `owner:9e9b9475-0fc0-47b2-9170-a5b7b9a075ee`],
    [`?q=owner:${taskId}`, `owner:${taskId}`],
    [
      '?q=owner:%22me%22+organization:%22Acme%22+status:%22active%22',
      'owner:9e9b9475-0fc0-47b2-9170-a5b7b9a075ee organization:"acme" phase:active',
    ],
    ['?q=status:error', 'phase:error'],
  ])('%j lists by %j, whoever owns it, the newest first', async (path, query) => {
    total = 1;
    const { status, body } = await ask(path);
    expect(status).toBe(200);
    expect(listOf(stableTask).parse(body)).toMatchObject({ count: 1, tasks: [{ id: taskId, status: 'active' }] });
    expect(listed.at(-1)).toEqual({ query, orderBy: 'created_at desc' });
    expect(options.at(-1)).toEqual({ defaultOwner: 'everyone' });
  });

  test('another user is known to who may know of users, and else refused like one who does not exist', async () => {
    const asOwner = await ask('?q=bob', { headers: { 'x-role': 'owner' } });
    expect([asOwner.status, listed.at(-1)?.query]).toEqual([200, 'owner:07070707-0707-0707-0707-070707070707']);
    for (const user of ['bob', 'nobody', '*', 'everyone']) {
      expect(await ask(`?q=owner:${user}`)).toEqual({
        status: 400,
        body: {
          message: 'Invalid task search query.',
          validations: [
            {
              field: 'owner',
              detail: `Query param "owner" has invalid value: user "${user}" either does not exist, or you are unauthorized to view them`,
            },
          ],
        },
      });
    }
  });

  test('an organization that is none is refused in the words of Coder', async () => {
    expect((await ask('?q=organization:nowhere')).body).toEqual({
      message: 'Invalid task search query.',
      validations: [
        {
          field: 'organization',
          detail:
            'Query param "organization" has invalid value: organization "nowhere" either does not exist, or you are unauthorized to view it',
        },
      ],
    });
  });

  test.each([
    ['?q=name:x', 'name'],
    ['?q=status:running', 'status'],
    ['?q=a+b+owner:c', 'owner'],
    ['?q=x:', 'q'],
    ['?q=organization:a%22b', 'organization'],
  ])('%j is refused', async (path, field) => {
    const { status, body } = await ask(path);
    expect(status).toBe(400);
    expect(body).toMatchObject({ message: 'Invalid task search query.', validations: [{ field, detail: expect.any(String) }] });
  });

  test('a list of more than 10,000 is an error', async () => {
    total = 10_001;
    const { status, body } = await ask('');
    expect(status).toBe(400);
    expect(body).toMatchObject({ validations: [{ field: 'q', detail: expect.stringContaining('more than 10000 tasks') }] });
  });

  test.each([
    [`/me/${taskId}`, 'by id'],
    [`/me/${taskId}/`, 'by id'],
    [`/developer/${taskId.replaceAll('-', '')}`, 'by id'],
    ['/me/some-name', 'me some-name'],
    ['/Developer/Some%2DName', 'Developer Some-Name'],
    ['/9e9b94750fc047b29170a5b7b9a075ee/x', '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee x'],
    // A name that is a UUID, of no task's id.
    ['/me/00000000-0000-0000-0000-000000000001', 'me 00000000-0000-0000-0000-000000000001'],
  ])('%j is the task %j', async (path, name) => {
    const { status, body } = await ask(path);
    expect([status, stableTask.parse(body).name]).toEqual([200, name]);
  });

  test('a task that is deleted is not found, and one whose workspace alone is deleted is', async () => {
    total = 0;
    expect(await ask('/me/deleted')).toEqual({ status: 404, body: notFound });
    expect(listed.at(-1)?.query).toBe(`owner:* id:${taskId}`);
    total = 1;
    expect((await ask('/me/deleted')).body).toMatchObject({ id: taskId, workspace_status: 'deleted' });
  });

  test.each(['/me/nothing', '/bob/some-name', '/nobody/some-name', `/nobody/${taskId}`])('%j is not found', async (path) => {
    expect(await ask(path)).toEqual({ status: 404, body: notFound });
  });

  test.each([
    ['POST', '/me'],
    ['GET', '/me'],
    ['DELETE', `/me/${taskId}`],
    ['PATCH', `/me/${taskId}/input`],
    ['POST', `/me/${taskId}/send`],
    ['GET', `/me/${taskId}/logs`],
    ['POST', `/me/${taskId}/pause`],
    ['POST', `/me/${taskId}/resume`],
  ])("%s %s, which is Coder's, is no route", async (method, path) => {
    expect(await ask(path, { method })).toEqual({
      status: 404,
      body: { code: 'unimplemented', message: 'there is no such method or page' },
    });
  });

  test('without a token it says what Coder says', async () => {
    const refused = await startTestServer();
    try {
      const answer = await fetch(`http://${refused.web}${root}`);
      expect([answer.status, await answer.json()]).toEqual([
        401,
        { message: 'You are signed out or your session has expired. Please sign in again to continue.' },
      ]);
    } finally {
      await refused.stop();
    }
  });
});
