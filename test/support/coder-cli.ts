import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { taskNotFound } from '../../src/call/errors.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import {
  AgentLifecycle,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  TaskPhase,
  type TaskSchema,
  TaskState,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { openWebSocket, StandInCoder } from './stand-in-coder.ts';
import { goodToken, startTestServer, type TestServer, testCaller } from './test-server.ts';

/** What Coder's command line asked for when it ran a command. */
export interface RecordedCommand {
  /** Its arguments, with TOKEN in the place of the token. */
  readonly command: string;
  /** Its requests in order: the method and the path with its query. */
  readonly requests: readonly string[];
}

/** The service with a Coder behind it, and tasks of each status that the commands make a difference of. */
interface ServiceForCoderCli extends TestServer {
  readonly coder: StandInCoder;
}

const someId = '5f0b2e26-6b0f-4f0e-8a0a-0b6a3b1c5d7e';
const userId = formatUuid(testCaller.userId);
const ids = { organizationId: someId, ownerId: userId, templateId: someId, templateVersionId: someId, workspaceId: someId };

const agent = {
  workspaceAgentId: someId,
  workspaceAgentLifecycle: AgentLifecycle.READY,
  workspaceAgentHealth: { healthy: true },
};

/** Its tasks by name; a name is what the task's status is. */
export const cliTasks = {
  active: 'a7a27450-ca16-4553-a6c5-9d6f04808560',
  initializing: 'a7a27450-ca16-4553-a6c5-9d6f04808561',
  paused: 'a7a27450-ca16-4553-a6c5-9d6f04808562',
} as const;

/**
 * Starts them. What the commands change goes over: a paused task that is resumed is active when its build was
 * followed, and a task that works when it is first asked for is idle the next time.
 */
export async function startForCoderCli(): Promise<ServiceForCoderCli> {
  const coder = new StandInCoder();
  const taskNamed = (name: string, isFirst = false): MessageInitShape<typeof TaskSchema> | undefined => {
    const id = Object.entries(cliTasks).find((entry) => entry.includes(name))?.[1];
    if (id === undefined) return undefined;
    const followed = coder.got.some(({ url }) => url?.includes('workspacebuilds'));
    const phase =
      id === cliTasks.active || followed ? TaskPhase.ACTIVE : id === cliTasks.paused ? TaskPhase.PAUSED : TaskPhase.INITIALIZING;
    const currentState = {
      state: isFirst ? TaskState.WORKING : TaskState.IDLE,
      message: 'Waiting',
      timestamp: { seconds: 1_780_000_000n },
    };
    return { ...ids, ...agent, id, name, ownerName: testCaller.username, status: WorkspaceStatus.RUNNING, phase, currentState };
  };
  coder.answer = ({ method, url = '' }, response) => {
    const answer = answers.find(([route]) => `${method} ${url.replace(/\?.*/, '')}`.match(`^${route}$`));
    response
      .writeHead(answer?.[1] ?? 404, { 'content-type': 'application/json', 'x-coder-build-version': 'v2.30.0' })
      .end(answer?.[2] === undefined ? undefined : JSON.stringify(answer[2]));
  };
  coder.answerHandshake = (request) => `${openWebSocket(request)}\x88\x02\x03\xe8`; // closed normally behind the first message

  let asked = 0;
  const server = await startTestServer({
    coderUrl: `http://127.0.0.1:${await coder.open()}`,
    findUser: () => Promise.resolve({ id: testCaller.userId, organizationIds: [] }),
    handlers: {
      listTasks: () =>
        Promise.resolve(
          create(ListTasksResponseSchema, { tasks: Object.keys(cliTasks).flatMap((name) => taskNamed(name) ?? []) }),
        ),
      getTask({ identifier }) {
        const task = taskNamed(identifier.case === 'id' ? identifier.value : (identifier.value?.name ?? ''), ++asked === 1);
        if (task === undefined) throw taskNotFound();
        return Promise.resolve(create(GetTaskResponseSchema, { task }));
      },
    },
  });
  return {
    ...server,
    coder,
    stop: async () => {
      await server.stop();
      coder.close();
    },
  };
}

const task = { ...ids, id: someId, organization_id: someId, owner_id: userId, name: 'new', created_at: '2026-06-19T10:00:00Z' };
const build = {
  id: someId,
  job: { id: someId, status: 'succeeded', started_at: task.created_at, completed_at: task.created_at },
};

/** What the Coder behind it answers: route, status, body. */
const answers: readonly (readonly [route: string, status: number, body?: unknown])[] = [
  ['GET /api/v2/buildinfo', 200, { version: 'v2.30.0' }],
  ['GET /api/v2/users/first', 200, { message: 'The initial user has already been created!' }],
  ['GET /api/v2/users/me', 200, { id: userId, username: testCaller.username, organization_ids: [someId], roles: [] }],
  ['POST /api/v2/users/me/keys', 201, { key: goodToken }],
  ['POST /api/v2/users/logout', 200, { message: 'Logged out!' }],
  ['GET /api/v2/users/me/organizations', 200, [{ id: someId, name: 'acme' }]],
  ['GET /api/v2/organizations/[^/]+', 200, { id: someId, name: 'other' }],
  ['GET /api/v2/(organizations/[^/]+/)?templates', 200, [{ id: someId, name: 'agent', active_version_id: someId }]],
  ['GET /api/v2/organizations/[^/]+/templates/[^/]+', 200, { id: someId, name: 'agent', active_version_id: someId }],
  ['GET /api/v2/organizations/[^/]+/templates/[^/]+/versions/[^/]+', 200, { id: someId, name: 'v1' }],
  ['GET /api/v2/templateversions/[^/]+/presets', 200, [{ ID: someId, Name: 'large', Default: false }]],
  ['POST /api/[^/]+/tasks/[^/]+', 201, task],
  ['DELETE /api/[^/]+/tasks/[^/]+/[^/]+', 202],
  ['POST /api/[^/]+/tasks/[^/]+/[^/]+/send', 204],
  ['GET /api/[^/]+/tasks/[^/]+/[^/]+/logs', 200, { logs: [{ id: 1, content: 'Hello', type: 'output', time: task.created_at }] }],
  ['POST /api/[^/]+/tasks/[^/]+/[^/]+/(pause|resume)', 202, { workspace_build: build }],
  ['GET /api/v2/workspaces/[^/]+', 200, { id: someId, latest_build: build }],
  ['GET /api/v2/workspacebuilds/[^/]+', 200, build],
];
