import type { SourceRows } from './source-rows.ts';

/** Microseconds since 1970, exact in a double until the year 2255. */
export type Micros = number;

/** Microseconds in a second. */
export const second = 1_000_000;
/** Microseconds in a minute. */
export const minute = 60 * second;
/** Microseconds in an hour. */
export const hour = 60 * minute;
/** Microseconds in a day. */
export const day = 24 * hour;

/** The status of a build's job (`provisioner_jobs.job_status`). */
export type JobStatus = 'pending' | 'running' | 'succeeded' | 'canceling' | 'canceled' | 'failed';

/**
 * How an agent is connected: `connecting` and `timeout` never were, `disconnected` closed the connection, `lost` stopped
 * reporting.
 */
export type Connection = 'connected' | 'connecting' | 'timeout' | 'disconnected' | 'lost';

/** An agent of a build that succeeded. */
export interface AgentPlan {
  readonly lifecycle: string;
  readonly connection: Connection;
  /** The agent's last connection, if there was one. */
  readonly seenAt: Micros;
  /** Health of the app through which a task reports; without one the agent has no such app. */
  readonly app?: 'disabled' | 'initializing' | 'healthy' | 'unhealthy';
  /** Whether it also serves an editor, which is no task's app. */
  readonly editor?: boolean;
  /** Whether a dev container with an agent of its own runs inside. */
  readonly subAgent?: boolean;
}

/** A report of an agent. */
export interface ReportPlan {
  readonly at: Micros;
  readonly state: 'working' | 'idle' | 'complete' | 'failure';
  readonly message: string;
  readonly uri?: string;
}

/** A start, stop or deletion of a workspace. */
export interface BuildPlan {
  readonly transition: 'start' | 'stop' | 'delete';
  readonly job: JobStatus;
  readonly at: Micros;
  readonly versionId: Buffer;
  /** `has_ai_task`; null until its job has succeeded. */
  readonly hasAiTask: boolean | null;
  /** The prompt among the build's parameters; undefined when it has no such parameter. */
  readonly prompt?: string | undefined;
  readonly parameters?: Readonly<Record<string, string>> | undefined;
  /** The error of a failed job. */
  readonly error?: string | undefined;
  readonly agent?: AgentPlan | undefined;
  readonly reports?: readonly ReportPlan[] | undefined;
}

/** A workspace with its history, from which `addWorkspace` makes rows. */
export interface WorkspacePlan {
  readonly id: Buffer;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  readonly templateId: Buffer;
  readonly name: string;
  readonly createdAt: Micros;
  readonly lastUsedAt: Micros;
  readonly dormantAt?: Micros | undefined;
  readonly favorite?: boolean | undefined;
  readonly deleted?: boolean | undefined;
  /** User or group id to actions. */
  readonly userAcl?: Readonly<Record<string, readonly string[]>>;
  readonly groupAcl?: Readonly<Record<string, readonly string[]>>;
  /** Oldest first; never empty. */
  readonly builds: readonly BuildPlan[];
  /** Type and name of the resource that a build creates. */
  readonly resource: readonly [type: string, name: string];
  /** Makes the id of a part, which is named within the workspace, such as `build 2 agent`. */
  readonly partId: (part: string) => Buffer;
}

/** The durations of a build: waiting for a provisioner, provisioning, the agent's first connection. */
const queued = 1_204_317;
const provisioned = 38_611_905;
const connected = 9_480_263;

/** Seconds after which an agent that never connected counts as timed out, as in Coder. */
const connectionTimeoutSeconds = 120;

/** Writes a time as DATETIME(6) in UTC. */
export function datetime(micros: Micros): string {
  const text = new Date(Math.floor(micros / 1000)).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 23)}${String(micros % 1000).padStart(3, '0')}`;
}

/**
 * Adds a workspace's rows: itself, and for each build its job, parameters, resource, agents, apps and reports.
 *
 * As in Coder, only a start that succeeded has an agent, and only a build that succeeded has `has_ai_task` set.
 */
export function addWorkspace(rows: SourceRows, plan: WorkspacePlan): void {
  const { id, organizationId, partId } = plan;
  rows.workspaces.push({
    id,
    owner_id: plan.ownerId,
    organization_id: organizationId,
    template_id: plan.templateId,
    name: plan.name,
    deleted: plan.deleted ?? false,
    favorite: plan.favorite ?? false,
    user_acl: aclJson(plan.userAcl),
    group_acl: aclJson(plan.groupAcl),
    last_used_at: datetime(plan.lastUsedAt),
    dormant_at: plan.dormantAt === undefined ? null : datetime(plan.dormantAt),
    created_at: datetime(plan.createdAt),
    updated_at: datetime(plan.createdAt),
  });
  let sidebarAppId: Buffer | null = null;
  plan.builds.forEach((build, index) => {
    const part = `build ${index + 1}`;
    const buildId = partId(part);
    const jobId = partId(`${part} job`);
    const appId = build.agent?.app === undefined ? null : partId(`${part} app`);
    // A stop has no app of its own and keeps that of the build before it (coder/coder #19560).
    if (build.agent !== undefined) sidebarAppId = appId;
    const finished = addJob(rows, jobId, organizationId, build);
    rows.workspace_builds.push({
      id: buildId,
      workspace_id: id,
      template_version_id: build.versionId,
      build_number: index + 1,
      transition: build.transition,
      job_id: jobId,
      has_ai_task: build.hasAiTask,
      ai_task_sidebar_app_id: build.hasAiTask === true ? sidebarAppId : null,
      has_external_agent: build.job === 'succeeded' ? false : null,
      created_at: datetime(build.at),
      updated_at: datetime(finished ?? build.at),
    });
    const parameters = { ...build.parameters, ...(build.prompt === undefined ? {} : { 'AI Prompt': build.prompt }) };
    for (const [name, value] of Object.entries(parameters)) {
      rows.workspace_build_parameters.push({ workspace_build_id: buildId, name, value });
    }
    if (build.agent !== undefined) addAgent(rows, plan, build, build.agent, { part, jobId, appId, at: finished ?? build.at });
  });
}

/** The agents of a workspace that are connected, sub-agents included. */
export function connectedAgents({ builds, partId }: WorkspacePlan): Buffer[] {
  return builds.flatMap(({ agent }, index) => {
    if (agent?.connection !== 'connected') return [];
    const part = `build ${index + 1}`;
    return [partId(`${part} agent`), ...(agent.subAgent === true ? [partId(`${part} sub-agent`)] : [])];
  });
}

/** Adds a build's job and returns the time when it completed, if it did. */
function addJob(rows: SourceRows, id: Buffer, organizationId: Buffer, { job, at, error }: BuildPlan): Micros | undefined {
  const started = job === 'pending' ? undefined : at + queued;
  const canceled = job === 'canceling' || job === 'canceled' ? at + queued + provisioned / 5 : undefined;
  const finished = ['succeeded', 'failed', 'canceled'].includes(job) ? at + queued + provisioned : undefined;
  const time = (value: Micros | undefined) => (value === undefined ? null : datetime(value));
  rows.provisioner_jobs.push({
    id,
    organization_id: organizationId,
    started_at: time(started),
    canceled_at: time(canceled),
    completed_at: time(finished),
    error: job === 'failed' ? (error ?? 'terraform apply: exit status 1') : null,
    created_at: datetime(at),
    updated_at: datetime(finished ?? started ?? at),
  });
  return finished;
}

function addAgent(
  rows: SourceRows,
  plan: WorkspacePlan,
  build: BuildPlan,
  agent: AgentPlan,
  {
    part,
    jobId,
    appId,
    at,
  }: { readonly part: string; readonly jobId: Buffer; readonly appId: Buffer | null; readonly at: Micros },
): void {
  const resourceId = plan.partId(`${part} resource`);
  const agentId = plan.partId(`${part} agent`);
  const [type, name] = plan.resource;
  const created = datetime(at);
  const everConnected = agent.connection !== 'connecting' && agent.connection !== 'timeout';
  const connection = {
    lifecycle_state: agent.lifecycle,
    // 0 disables the timeout: an agent that is meant to be connecting would time out two minutes later.
    connection_timeout_seconds: agent.connection === 'connecting' ? 0 : connectionTimeoutSeconds,
    first_connected_at: everConnected ? datetime(Math.min(at + connected, agent.seenAt)) : null,
    last_connected_at: everConnected ? datetime(agent.seenAt) : null,
    disconnected_at: agent.connection === 'disconnected' ? datetime(agent.seenAt + second) : null,
    created_at: created,
    updated_at: everConnected ? datetime(agent.seenAt) : created,
  };
  rows.workspace_resources.push({ id: resourceId, job_id: jobId, transition: build.transition, type, name, created_at: created });
  rows.workspace_agents.push({ id: agentId, resource_id: resourceId, parent_id: null, name: 'main', ...connection });
  if (appId !== null && agent.app !== undefined) {
    const app = { agent_id: agentId, slug: 'task', display_name: 'Task', health: agent.app, created_at: created };
    rows.workspace_apps.push({ id: appId, ...app });
  }
  if (agent.editor === true) {
    const app = { agent_id: agentId, slug: 'editor', display_name: 'Editor', health: 'healthy', created_at: created };
    rows.workspace_apps.push({ id: plan.partId(`${part} editor`), ...app });
  }
  if (agent.subAgent === true) {
    const id = plan.partId(`${part} sub-agent`);
    rows.workspace_agents.push({ id, resource_id: resourceId, parent_id: agentId, name: 'devcontainer', ...connection });
  }
  build.reports?.forEach((report, index) => {
    rows.workspace_app_statuses.push({
      id: plan.partId(`${part} report ${index + 1}`),
      workspace_id: plan.id,
      agent_id: agentId,
      app_id: appId ?? agentId,
      state: report.state,
      message: report.message,
      uri: report.uri ?? null,
      created_at: datetime(report.at),
    });
  });
}

function aclJson(acl: Readonly<Record<string, readonly string[]>> = {}): string {
  return JSON.stringify(Object.fromEntries(Object.entries(acl).map(([subject, permissions]) => [subject, { permissions }])));
}
