import { createHash } from 'node:crypto';
import { sourceTables } from '../../dev/demo/source-rows.ts';
import type { Database } from '../../src/db/connection.ts';

/** A task as Coder's rules make it from the source tables, worked out row by row, apart from the program's own projection. */
export interface SourceTask {
  readonly id: Buffer;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly template_id: Buffer;
  readonly name: string;
  readonly deleted: 0 | 1;
  readonly favorite: 0 | 1;
  readonly user_acl: Readonly<Record<string, unknown>>;
  readonly group_acl: Readonly<Record<string, unknown>>;
  readonly dormant_at: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly status: string;
  readonly phase: string;
  readonly prompt: string;
  /** The last report that is not stale; what is derived while a task initializes is not here. */
  readonly state: {
    readonly state: string;
    readonly message: string;
    readonly uri: string | null;
    readonly created_at: string;
  } | null;
  /** Whether there is a report, and it is stale. */
  readonly staleReport: boolean;
  /** `has_ai_task` of each build. */
  readonly flags: readonly (0 | 1 | null)[];
  /** The life of the latest build's agent, if it has one. */
  readonly lifecycle: string | undefined;
  readonly outdated: boolean;
}

interface Workspace {
  readonly id: Buffer;
  readonly template_id: Buffer;
}

interface Build {
  readonly id: Buffer;
  readonly workspace_id: Buffer;
  readonly template_version_id: Buffer;
  readonly build_number: number;
  readonly transition: 'start' | 'stop' | 'delete';
  readonly job_id: Buffer;
  readonly has_ai_task: 0 | 1 | null;
  readonly ai_task_sidebar_app_id: Buffer | null;
  readonly created_at: string;
}

interface Agent {
  readonly resource_id: Buffer;
  readonly parent_id: Buffer | null;
  readonly lifecycle_state: string;
}

type Report = NonNullable<SourceTask['state']> & { readonly workspace_id: Buffer };

/** Reads every task that the source tables hold, deleted ones too. */
export async function readTasks(database: Database): Promise<SourceTask[]> {
  const rowsOf = async <Row>(table: string) => (await database(table).select()) as Row[];
  /** Reads a table and returns what finds the rows whose id in a column is the one given. */
  const lookUp = async <Row>(table: string, column: keyof Row & string): Promise<(id: Buffer | null | undefined) => Row[]> => {
    const rows = Map.groupBy(await rowsOf<Row>(table), (row) => (row[column] as Buffer).toString('hex'));
    return (id) => rows.get(id?.toString('hex') ?? '') ?? [];
  };
  const builds = await lookUp<Build>('workspace_builds', 'workspace_id');
  const jobs = await lookUp<{ id: Buffer; job_status: string }>('provisioner_jobs', 'id');
  const parameters = await lookUp<{ workspace_build_id: Buffer; name: string; value: string }>(
    'workspace_build_parameters',
    'workspace_build_id',
  );
  const resources = await lookUp<{ id: Buffer; job_id: Buffer }>('workspace_resources', 'job_id');
  const agents = await lookUp<Agent>('workspace_agents', 'resource_id');
  const apps = await lookUp<{ id: Buffer; health: string }>('workspace_apps', 'id');
  const reports = await lookUp<Report>('workspace_app_statuses', 'workspace_id');
  const templates = await lookUp<{ id: Buffer; active_version_id: Buffer }>('templates', 'id');
  const promptOf = (build: Build | undefined) => parameters(build?.id).find(({ name }) => name === 'AI Prompt')?.value ?? '';

  return (await rowsOf<Workspace>('workspaces')).flatMap((workspace): SourceTask[] => {
    const history = builds(workspace.id).toSorted((a, b) => a.build_number - b.build_number || a.id.compare(b.id));
    const latest = history.at(-1);
    const start = history.findLast((build) => build.transition === 'start');
    const byStart = start?.has_ai_task === 1 || (start?.has_ai_task === null && promptOf(start) !== '');
    if (latest === undefined || !(latest.has_ai_task === 1 || byStart)) return [];
    const job = jobs(latest.job_id)[0]?.job_status ?? '';
    const agent = resources(latest.job_id)
      .flatMap(({ id }) => agents(id))
      .find(({ parent_id }) => parent_id === null);
    const report = reports(workspace.id)
      .toSorted((a, b) => (a.created_at < b.created_at ? -1 : 1))
      .at(-1);
    const fresh = report !== undefined && (latest.transition !== 'start' || report.created_at > latest.created_at);
    return [
      {
        ...(workspace as unknown as SourceTask),
        status: statusOf(latest.transition, job),
        phase: phaseOf(latest.transition, job, agent?.lifecycle_state, apps(latest.ai_task_sidebar_app_id)[0]?.health),
        prompt: promptOf(history.findLast((build) => promptOf(build) !== '')),
        state: fresh ? { state: report.state, message: report.message, uri: report.uri, created_at: report.created_at } : null,
        staleReport: report !== undefined && !fresh,
        flags: history.map((build) => build.has_ai_task),
        lifecycle: agent?.lifecycle_state,
        outdated: templates(workspace.template_id)[0]?.active_version_id.equals(latest.template_version_id) === false,
      },
    ];
  });
}

/** What a job does to a workspace, else the job's own word (codersdk/provisionerdaemons.go, ConvertWorkspaceStatus). */
function statusOf(transition: string, job: string): string {
  const words: Record<string, Record<string, string>> = {
    running: { start: 'starting', stop: 'stopping', delete: 'deleting' },
    succeeded: { start: 'running', stop: 'stopped', delete: 'deleted' },
  };
  return words[job]?.[transition] ?? job;
}

/** Coder's view `tasks_with_status`, migrations 398 and 415. */
function phaseOf(transition: string, job: string, lifecycle: string | undefined, health: string | undefined): string {
  if (['failed', 'canceling', 'canceled'].includes(job)) return 'error';
  if (transition !== 'start') return job === 'succeeded' ? 'paused' : 'unknown';
  if (job === 'pending') return 'pending';
  if (lifecycle === undefined || lifecycle === 'created' || lifecycle === 'starting') return 'initializing';
  if (!['ready', 'start_timeout', 'start_error'].includes(lifecycle)) return 'unknown';
  if (health === undefined) return 'unknown';
  return health === 'initializing' ? 'initializing' : health === 'unhealthy' ? 'error' : 'active';
}

/** A digest of the rows of each source table, whatever their order, and the number of notes in the outbox. */
export async function contents(database: Database): Promise<Record<string, string>> {
  const digests: Record<string, string> = { notes: String(await count(database, 'workspace_changes')) };
  for (const table of sourceTables) {
    const rows = await database(table).select<Record<string, unknown>[]>();
    const lines = rows.map((row) => JSON.stringify(Object.entries(row).toSorted(([a], [b]) => (a < b ? -1 : 1))));
    digests[table] = createHash('sha256')
      .update(lines.toSorted((a, b) => (a < b ? -1 : 1)).join('\n'))
      .digest('hex');
  }
  return digests;
}

/** How many rows a table has. */
export async function count(database: Database, table: string): Promise<number> {
  const [row] = await database(table).count<{ count: number | string }[]>({ count: '*' });
  return Number(row?.count);
}
