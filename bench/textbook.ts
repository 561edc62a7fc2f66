import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import knex from 'knex';
import {
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  type TaskSchema,
  TaskState,
  TasksService,
  WorkspaceStatus,
} from '../src/gen/tasks/v1/tasks_pb.ts';

// Textbook: what a good tutorial would build. Connect's own adapter, Knex with joins over the normalized tables, messages by
// create(). It has no authentication, scope, log, metrics, query language or page tokens, all of which ours has.

/** The options of the textbook: JSON in the environment variable TEXTBOOK. */
export interface TextbookOptions {
  readonly socketPath: string;
  readonly user: string;
  readonly database: string;
  readonly connections: number;
  /** The id of the user whose tasks are listed, in hexadecimal. */
  readonly owner: string;
}

const { connections, owner, ...address } = JSON.parse(process.env['TEXTBOOK'] ?? '') as TextbookOptions;
const db = knex({
  client: 'mysql2',
  connection: { ...address, charset: 'utf8mb4_bin', timezone: 'Z' },
  pool: { min: 0, max: connections },
});

interface Row {
  id: Buffer;
  owner_id: Buffer;
  organization_id: Buffer;
  template_id: Buffer;
  name: string;
  favorite: number;
  created_at: Date;
  updated_at: Date;
  last_used_at: Date | null;
  dormant_at: Date | null;
  owner_name: string;
  owner_avatar_url: string;
  organization_name: string;
  template_name: string;
  template_display_name: string;
  template_icon: string;
  template_version_id: Buffer;
  build_number: number;
  transition: 'start' | 'stop' | 'delete';
  job_status: string;
  prompt: string | null;
  agent_id: Buffer | null;
  app_id: Buffer | null;
  state: string | null;
  message: string | null;
  uri: string | null;
  reported_at: Date | null;
}

/** The workspaces with their latest build, its prompt, agent and app, and the latest report. */
function tasks() {
  return db('workspaces as w')
    .join('users as u', 'u.id', 'w.owner_id')
    .join('organizations as o', 'o.id', 'w.organization_id')
    .join('templates as t', 't.id', 'w.template_id')
    .join('workspace_builds as b', 'b.workspace_id', 'w.id')
    .join('provisioner_jobs as j', 'j.id', 'b.job_id')
    .leftJoin('workspace_build_parameters as p', (on) => on.on('p.workspace_build_id', 'b.id').andOnVal('p.name', 'AI Prompt'))
    .leftJoin('workspace_resources as r', 'r.job_id', 'b.job_id')
    .leftJoin('workspace_agents as a', (on) => on.on('a.resource_id', 'r.id').andOnNull('a.parent_id'))
    .leftJoin('workspace_apps as p2', 'p2.agent_id', 'a.id')
    .leftJoin('workspace_app_statuses as s', 's.workspace_id', 'w.id')
    .where('b.build_number', db('workspace_builds as b2').max('b2.build_number').whereRaw('?? = ??', ['b2.workspace_id', 'w.id']))
    .where((latest) => {
      const newest = db('workspace_app_statuses as s2').select('s2.id').whereRaw('?? = ??', ['s2.workspace_id', 'w.id']);
      void latest.whereNull('s.id').orWhere('s.id', newest.orderBy('s2.created_at', 'desc').limit(1));
    })
    .select<Row[]>(
      'w.id',
      'w.owner_id',
      'w.organization_id',
      'w.template_id',
      'w.name',
      'w.favorite',
      'w.created_at',
      'w.updated_at',
      'w.last_used_at',
      'w.dormant_at',
      'u.username as owner_name',
      'u.avatar_url as owner_avatar_url',
      'o.name as organization_name',
      't.name as template_name',
      't.display_name as template_display_name',
      't.icon as template_icon',
      'b.template_version_id',
      'b.build_number',
      'b.transition',
      'j.job_status',
      'p.value as prompt',
      'a.id as agent_id',
      'p2.id as app_id',
      's.state',
      's.message',
      's.uri',
      's.created_at as reported_at',
    );
}

const routes = (router: ConnectRouter) =>
  router.service(TasksService, {
    async getTask(request) {
      const id = request.identifier.case === 'id' ? request.identifier.value : '';
      const [row] = await tasks().where('w.id', Buffer.from(id.replaceAll('-', ''), 'hex'));
      if (row === undefined) throw new ConnectError('no such task', Code.NotFound);
      return create(GetTaskResponseSchema, { task: toTask(row) });
    },
    async listTasks(request) {
      const pageSize = request.pageSize || 25;
      const rows = await tasks()
        .where('w.owner_id', Buffer.from(owner, 'hex'))
        .where('w.deleted', false)
        .orderByRaw("w.favorite desc, b.transition = 'start' and j.job_status = 'succeeded' desc, w.name_lower, w.id")
        .limit(pageSize + 1);
      const page = rows.slice(0, pageSize);
      return create(ListTasksResponseSchema, {
        tasks: page.map(toTask),
        count: page.length,
        nextPageToken: rows.length > pageSize ? uuid(page.at(-1)?.id ?? null) : '',
      });
    },
  });

function toTask(row: Row): MessageInitShape<typeof TaskSchema> {
  return {
    id: uuid(row.id),
    organizationId: uuid(row.organization_id),
    ownerId: uuid(row.owner_id),
    name: row.name,
    templateId: uuid(row.template_id),
    workspaceId: uuid(row.id),
    initialPrompt: row.prompt ?? '',
    status: statusOf(row),
    ...(row.state === null || row.reported_at === null
      ? {}
      : {
          currentState: {
            timestamp: timestampFromDate(row.reported_at),
            state: states[row.state] ?? TaskState.UNSPECIFIED,
            message: row.message ?? '',
            uri: row.uri ?? '',
          },
        }),
    createdAt: timestampFromDate(row.created_at),
    updatedAt: timestampFromDate(row.updated_at),
    ownerName: row.owner_name,
    ownerAvatarUrl: row.owner_avatar_url,
    displayName: (row.prompt ?? '').slice(0, 64),
    organizationName: row.organization_name,
    templateName: row.template_name,
    templateDisplayName: row.template_display_name,
    templateIcon: row.template_icon,
    templateVersionId: uuid(row.template_version_id),
    workspaceName: row.name,
    workspaceBuildNumber: row.build_number,
    ...(row.agent_id === null ? {} : { workspaceAgentId: uuid(row.agent_id) }),
    ...(row.app_id === null ? {} : { workspaceAppId: uuid(row.app_id) }),
    favorite: row.favorite === 1,
    ...(row.last_used_at === null ? {} : { lastUsedAt: timestampFromDate(row.last_used_at) }),
    ...(row.dormant_at === null ? {} : { dormantAt: timestampFromDate(row.dormant_at) }),
  };
}

const states: Readonly<Record<string, TaskState>> = {
  working: TaskState.WORKING,
  idle: TaskState.IDLE,
  complete: TaskState.COMPLETE,
  failure: TaskState.FAILED,
};

/** The status while the job of the latest build runs, and after it succeeded, by the build's transition. */
const transitions = {
  start: [WorkspaceStatus.STARTING, WorkspaceStatus.RUNNING],
  stop: [WorkspaceStatus.STOPPING, WorkspaceStatus.STOPPED],
  delete: [WorkspaceStatus.DELETING, WorkspaceStatus.DELETED],
} as const;

function statusOf({ job_status: job, transition }: Row): WorkspaceStatus {
  switch (job) {
    case 'pending':
      return WorkspaceStatus.PENDING;
    case 'running':
      return transitions[transition][0];
    case 'succeeded':
      return transitions[transition][1];
    case 'failed':
      return WorkspaceStatus.FAILED;
    case 'canceling':
      return WorkspaceStatus.CANCELING;
    default:
      return WorkspaceStatus.CANCELED;
  }
}

function uuid(id: Buffer | null): string {
  return id?.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') ?? '';
}

const server = createServer(connectNodeAdapter({ routes }));
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ msg: 'listening', grpc: `127.0.0.1:${(server.address() as AddressInfo).port}` }));
});
