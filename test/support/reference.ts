import { create } from '@bufbuild/protobuf';
import { type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { AgentLifecycle, type Task, TaskPhase, TaskSchema, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { AgentRow, BuildRow, RolePermission, WorkspaceRow, World } from './world.ts';

/** What a list must answer: its tasks in order, or the fields and keys that it must complain of, sorted. */
export type Answer = { readonly tasks: readonly Task[] } | { readonly refused: readonly string[] };

/** What the service must answer in a world, worked out anew for each question by looking at every row. */
export interface Reference {
  /** All pages of a list together. */
  list(callerId: string, request: { readonly query: string; readonly orderBy: string }): Answer;
  /** The task of a workspace, if it is one and the caller may read it. */
  get(callerId: string, workspaceId: string): Task | undefined;
  /** The task of an owner, given by username, id or `me`, with a name. */
  getByName(callerId: string, owner: string, name: string): Task | undefined;
}

/** A task with all that a filter may ask about it. */
interface Known {
  readonly workspace: WorkspaceRow;
  readonly latest: BuildRow;
  /** As everybody but its owner sees it. */
  readonly task: Task;
  readonly running: boolean;
  readonly prompt: string;
  /** Connection of each agent of the latest build, if that starts the workspace. */
  readonly agents: readonly string[];
  /** Lower-cased names and values of the latest build's parameters. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
}

/**
 * Works out what the service must answer from the source rows and the documented rules alone. It shares no code with the service
 * but the messages.
 *
 * @param now the time by which agents are judged.
 * @param haveTable whether tasks have a table of their own, as in newer versions of Coder.
 */
export function createReference(world: World, now: Date, inactiveSeconds: number, haveTable = false): Reference {
  const tasks = world.workspaces.flatMap((workspace) => knownTask(world, workspace, now, inactiveSeconds) ?? []);
  const seenBy = (callerId: string, { workspace, task }: Known): Task =>
    create(TaskSchema, { ...task, favorite: workspace.favorite && workspace.owner_id === callerId });
  const readable = (callerId: string) => tasks.filter(({ workspace }) => mayRead(world, callerId, workspace, haveTable));

  return {
    list(callerId, { query, orderBy }) {
      const { terms, refused } = readQuery(query);
      const order = orderBy.trim().split(/ +/).join(' ');
      const wide = ['id', 'organization', 'shared_with_user', 'shared_with_group'].some((key) => terms.has(key));
      const owner = terms.get('owner')?.[0] ?? (wide ? '*' : 'me');
      const known = order === '' || /^(created_at|current_state\.timestamp)( desc)?$/.test(order);
      if (!known && !((order === 'name' || order === 'name desc') && owner !== '*')) refused.add('order_by');

      const names = resolveNames(world, callerId, terms);
      if ('refused' in names || refused.size > 0) {
        return { refused: [...new Set([...refused, ...('refused' in names ? names.refused : [])])].sort() };
      }
      const ownerId = owner === '*' ? undefined : (userOf(world, callerId, owner) ?? 'nobody');
      const matching = readable(callerId).filter(
        (one) => (ownerId === undefined || one.workspace.owner_id === ownerId) && matches(world, one, terms, names),
      );
      const compare =
        order !== '' ? byColumn(order) : ownerId === undefined ? byColumn('created_at desc') : byDefault(ownerId === callerId);
      return { tasks: matching.sort(compare).map((one) => seenBy(callerId, one)) };
    },

    get(callerId, workspaceId) {
      const found = readable(callerId).find(({ workspace }) => workspace.id === workspaceId);
      return found === undefined ? undefined : seenBy(callerId, found);
    },

    getByName(callerId, owner, name) {
      const ownerId = userOf(world, callerId, owner.toLowerCase());
      const found = readable(callerId).find(
        ({ workspace }) =>
          workspace.owner_id === ownerId && !workspace.deleted && workspace.name.toLowerCase() === name.toLowerCase(),
      );
      return found === undefined ? undefined : seenBy(callerId, found);
    },
  };
}

// ---- What a task is ----------------------------------------------------------------------------------------------------------

function knownTask(world: World, workspace: WorkspaceRow, now: Date, inactiveSeconds: number): Known | undefined {
  const builds = world.workspace_builds
    .filter((build) => build.workspace_id === workspace.id)
    .toSorted((a, b) => a.build_number - b.build_number || (a.id < b.id ? -1 : 1));
  const promptOf = (build: BuildRow | undefined): string =>
    world.workspace_build_parameters.find(
      ({ workspace_build_id, name }) => workspace_build_id === build?.id && name === 'AI Prompt',
    )?.value ?? '';
  const first = builds.at(0);
  const latest = builds.at(-1);
  const lastStart = builds.findLast(({ transition }) => transition === 'start');
  const flagged = latest?.has_ai_task === true || lastStart?.has_ai_task === true;
  const notJudgedYet = lastStart?.has_ai_task === null && promptOf(lastStart) !== '';
  if (first === undefined || latest === undefined || !(flagged || notJudgedYet)) return undefined;

  const job = world.provisioner_jobs.find(({ id }) => id === latest.job_id);
  const jobStatus = job === undefined ? undefined : jobStatusOf(job);
  const { agent, app } = agentAndApp(world, workspace, latest);
  const status = workspace.deleted ? 'deleted' : statusOf(jobStatus ?? 'pending', latest.transition);
  const phase = workspace.deleted ? 'paused' : phaseOf(jobStatus, latest.transition, agent?.lifecycle_state, app?.health);
  const prompt = promptOf(builds.findLast((build) => promptOf(build) !== ''));
  const owner = world.users.find(({ id }) => id === workspace.owner_id);
  const organization = world.organizations.find(({ id }) => id === workspace.organization_id);
  const template = world.templates.find(({ id }) => id === workspace.template_id);
  const connectionOf = (one: AgentRow) => connection(one, now, inactiveSeconds);
  const state = stateOf(world, workspace, latest, status, phase, agent?.lifecycle_state, app?.health);

  return {
    workspace,
    latest,
    prompt,
    running:
      job !== undefined &&
      job.completed_at !== null &&
      job.canceled_at === null &&
      job.error === null &&
      latest.transition === 'start',
    agents:
      latest.transition === 'start'
        ? agentsOf(world, latest)
            .filter(({ deleted }) => !deleted)
            .map(connectionOf)
        : [],
    parameters: world.workspace_build_parameters
      .filter(({ workspace_build_id }) => workspace_build_id === latest.id)
      .map(({ name, value }) => [name.toLowerCase(), value.toLowerCase()] as const),
    task: create(TaskSchema, {
      id: workspace.id,
      organizationId: workspace.organization_id,
      ownerId: workspace.owner_id,
      name: workspace.name,
      templateId: workspace.template_id,
      workspaceId: workspace.id,
      initialPrompt: prompt,
      status: word(WorkspaceStatus, status),
      createdAt: timestamp(workspace.created_at),
      updatedAt: timestamp(workspace.updated_at),
      ownerName: owner?.username ?? '',
      ownerAvatarUrl: owner?.avatar_url ?? '',
      displayName: titleOf(prompt),
      organizationName: organization?.name ?? '',
      templateName: template?.name ?? '',
      templateDisplayName: template?.display_name ?? '',
      templateIcon: template?.icon ?? '',
      templateVersionId: first.template_version_id,
      workspaceName: workspace.name,
      workspaceBuildNumber: latest.build_number,
      phase: word(TaskPhase, phase),
      ...(workspace.last_used_at.startsWith('0001-01-01 00:00:00') ? {} : { lastUsedAt: timestamp(workspace.last_used_at) }),
      ...(state === undefined ? {} : { currentState: state }),
      ...(agent === undefined
        ? {}
        : {
            workspaceAgentId: agent.id,
            workspaceAgentLifecycle: word(AgentLifecycle, agent.lifecycle_state),
            workspaceAgentHealth: healthOf(connectionOf(agent), agent.lifecycle_state),
          }),
      ...(app === undefined ? {} : { workspaceAppId: app.id }),
      ...(workspace.dormant_at === null ? {} : { dormantAt: timestamp(workspace.dormant_at) }),
      ...(phase === 'active' && state?.state === TaskState.IDLE ? { waitingSince: state.timestamp } : {}),
    }),
  };
}

/** The generated column `job_status`. */
function jobStatusOf(job: World['provisioner_jobs'][number]): string {
  if (job.error !== null && job.error !== '') return 'failed';
  if (job.completed_at !== null) return job.canceled_at === null ? 'succeeded' : 'canceled';
  if (job.canceled_at !== null) return 'canceling';
  return job.started_at === null ? 'pending' : 'running';
}

function statusOf(job: string, transition: BuildRow['transition']): string {
  if (job === 'running') return { start: 'starting', stop: 'stopping', delete: 'deleting' }[transition];
  if (job === 'succeeded') return { start: 'running', stop: 'stopped', delete: 'deleted' }[transition];
  return job;
}

/** The verdicts on the build, the agent and the app, of which the first that is not `active` counts. */
function phaseOf(job: string | undefined, transition: string, lifecycle: string | undefined, health: string | undefined): string {
  const start = transition === 'start';
  const build =
    job === undefined
      ? 'pending'
      : ['failed', 'canceling', 'canceled'].includes(job)
        ? 'error'
        : !start && job === 'succeeded'
          ? 'paused'
          : start && job === 'pending'
            ? 'pending'
            : start
              ? 'active'
              : 'unknown';
  const agent = ['none', 'created', 'starting'].includes(lifecycle ?? 'none')
    ? 'initializing'
    : ['ready', 'start_timeout', 'start_error'].includes(lifecycle ?? '')
      ? 'active'
      : 'unknown';
  const app =
    { initializing: 'initializing', unhealthy: 'error', healthy: 'active', disabled: 'active' }[health ?? 'none'] ?? 'unknown';
  return [build, agent, app].find((verdict) => verdict !== 'active') ?? 'active';
}

function agentsOf(world: World, build: BuildRow): AgentRow[] {
  const resources = world.workspace_resources.filter(({ job_id }) => job_id === build.job_id).map(({ id }) => id);
  return world.workspace_agents.filter(({ resource_id }) => resources.includes(resource_id));
}

/** The app that the latest build names, and its agent; else the build's only app and its agent; else its only agent. */
function agentAndApp(world: World, workspace: WorkspaceRow, latest: BuildRow) {
  const everyAgent = world.workspace_builds
    .filter(({ workspace_id }) => workspace_id === workspace.id)
    .flatMap((build) => agentsOf(world, build));
  const named = world.workspace_apps.find(({ id }) => id === latest.ai_task_sidebar_app_id);
  const namedAgent = everyAgent.find(({ id }) => id === named?.agent_id);
  if (named !== undefined && namedAgent !== undefined) return { agent: namedAgent, app: named };

  const agents = agentsOf(world, latest).filter(({ deleted, parent_id }) => !deleted && parent_id === null);
  const apps = world.workspace_apps.filter(({ agent_id }) => agents.some(({ id }) => id === agent_id));
  const [app] = apps;
  if (apps.length === 1) return { agent: agents.find(({ id }) => id === app?.agent_id), app };
  return { agent: agents.length === 1 ? agents[0] : undefined, app: undefined };
}

function connection(
  agent: AgentRow,
  now: Date,
  inactiveSeconds: number,
): 'timeout' | 'connecting' | 'disconnected' | 'connected' {
  const since = (time: string): number => (now.getTime() - Date.parse(`${time.replace(' ', 'T')}Z`)) / 1000;
  if (agent.first_connected_at === null || agent.last_connected_at === null) {
    const limit = agent.connection_timeout_seconds;
    return limit > 0 && since(agent.created_at) > limit ? 'timeout' : 'connecting';
  }
  if (agent.disconnected_at !== null && agent.disconnected_at > agent.last_connected_at) return 'disconnected';
  return since(agent.last_connected_at) > inactiveSeconds ? 'disconnected' : 'connected';
}

function healthOf(status: string, lifecycle: string): { healthy: boolean; reason?: string } {
  const rules: readonly (readonly [holds: boolean, reason: string])[] = [
    [status !== 'connected' && lifecycle === 'off', 'agent is not running'],
    [status === 'connecting', 'agent has not yet connected'],
    [status === 'timeout', 'agent is taking too long to connect'],
    [status === 'disconnected', 'agent has lost connection'],
    [lifecycle === 'start_error', 'agent startup script exited with an error'],
    [['shutting_down', 'shutdown_timeout', 'shutdown_error', 'off'].includes(lifecycle), 'agent is shutting down'],
  ];
  const reason = rules.find(([holds]) => holds)?.[1];
  return reason === undefined ? { healthy: true } : { healthy: false, reason };
}

function stateOf(
  world: World,
  workspace: WorkspaceRow,
  latest: BuildRow,
  status: string,
  phase: string,
  lifecycle: string | undefined,
  health: string | undefined,
) {
  const report = world.workspace_app_statuses
    .filter(({ workspace_id }) => workspace_id === workspace.id)
    .toSorted((a, b) => (a.created_at < b.created_at ? -1 : 1))
    .at(-1);
  if (report !== undefined && (latest.transition !== 'start' || report.created_at > latest.created_at)) {
    const state = word(TaskState, report.state === 'failure' ? 'failed' : report.state);
    return { timestamp: timestamp(report.created_at), state, message: report.message, uri: report.uri ?? '' };
  }
  if (phase !== 'initializing') return undefined;
  const byAgent: Readonly<Record<string, string>> = {
    none: 'Initializing workspace',
    created: 'Agent is connecting',
    starting: 'Agent is starting',
    ready: health === 'initializing' ? 'App is initializing' : 'Initializing workspace applications',
  };
  const message =
    status === 'pending' || status === 'starting'
      ? `Workspace is ${status}`
      : (byAgent[lifecycle ?? 'none'] ?? 'Initializing workspace agent');
  return { timestamp: timestamp(latest.created_at), state: TaskState.WORKING, message, uri: '' };
}

function titleOf(prompt: string): string {
  const characters = [...prompt.replace(/[\r\n\t]+/g, ' ')];
  return characters.length > 64 ? `${characters.slice(0, 63).join('')}…` : characters.join('');
}

// ---- Who may read it ---------------------------------------------------------------------------------------------------------

/**
 * Whether a user may read a workspace that is a task: within the token's scope, what its ACL gives, or what the highest level says
 * that speaks. In newer versions of Coder all this is asked of the workspace and of the task.
 */
function mayRead(world: World, callerId: string, workspace: WorkspaceRow, haveTable: boolean): boolean {
  const caller = world.users.find(({ id }) => id === callerId);
  if (caller === undefined) return false;
  const memberships = world.organization_members.filter(({ user_id }) => user_id === callerId);
  const membership = memberships.find(({ organization_id }) => organization_id === workspace.organization_id);
  const impliedAreRows = world.custom_roles.some(({ is_system }) => is_system === true);
  const isNewer = haveTable || impliedAreRows;
  const resources = isNewer ? ['workspace', 'task'] : ['workspace'];

  const token = world.api_keys.find(({ user_id }) => user_id === callerId);
  const scopes = token?.scopes ?? [token?.scope ?? ''];
  const allowed = token?.allow_list ?? ['*:*'];
  for (const resource of resources) {
    const words = ['all', 'coder:all', `${resource}:read`, `${resource}:*`];
    if (resource === 'workspace') words.push('coder:workspaces.access');
    if (!scopes.some((scope) => words.includes(scope))) return false;
    if (!['*', resource].some((type) => allowed.includes(`${type}:*`) || allowed.includes(`${type}:${workspace.id}`)))
      return false;
  }

  const gives = (acl: WorkspaceRow['user_acl'], subject: string): boolean =>
    acl[subject]?.permissions.some((action) => action === 'read' || action === '*') ?? false;
  const groups = world.group_members.filter(({ user_id }) => user_id === callerId).map(({ group_id }) => group_id);
  const sharedWith = membership === undefined ? [] : [workspace.organization_id, ...groups];
  const shared = gives(workspace.user_acl, callerId) || sharedWith.some((group) => gives(workspace.group_acl, group));
  // The read model leaves out with whom a deleted workspace was shared.
  if (shared && !workspace.deleted) return true;

  const siteRoles = world.custom_roles.filter(
    ({ organization_id, name }) => organization_id === null && caller.rbac_roles.includes(name),
  );
  const implied = caller.is_service_account === true ? 'organization-service-account' : 'organization-member';
  const namesIn = ({ organization_id, roles }: World['organization_members'][number]): string[] => {
    const { default_org_member_roles = [] } = world.organizations.find(({ id }) => id === organization_id) ?? {};
    return [...roles, ...default_org_member_roles, ...(isNewer ? [implied] : [])];
  };
  const rolesIn = (one: World['organization_members'][number]) =>
    world.custom_roles.filter((role) => role.organization_id === one.organization_id && namesIn(one).includes(role.name));
  const isOwn = workspace.owner_id === callerId && membership !== undefined;
  const built = (names: readonly string[], ...reading: readonly string[]) => reading.some((name) => names.includes(name));

  return resources.every((resource) => {
    const isTask = resource === 'task';
    const onSite = verdict(
      resource,
      siteRoles.flatMap((role) => role.site_permissions),
      built(caller.rbac_roles, 'owner', ...(isTask ? [] : ['template-admin'])),
    );
    if (onSite !== undefined || membership === undefined) return onSite ?? false;
    const names = namesIn(membership);
    const inOrganization = verdict(
      resource,
      rolesIn(membership).flatMap((role) => role.org_permissions),
      built(names, 'organization-admin', ...(isTask ? [] : ['organization-template-admin'])),
    );
    if (inOrganization !== undefined || !isOwn) return inOrganization ?? false;
    const ofOwn = isNewer
      ? rolesIn(membership).flatMap((role) => role.member_permissions ?? [])
      : [...siteRoles, ...memberships.flatMap(rolesIn)].flatMap((role) => role.user_permissions);
    return verdict(resource, ofOwn, !impliedAreRows || built(names, 'organization-workspace-access')) ?? false;
  });
}

/** What one level says about reading a resource: true, false, or nothing. A denial beats any permission. */
function verdict(resource: string, permissions: readonly RolePermission[], builtIn: boolean): boolean | undefined {
  const about = permissions.filter(
    ({ resource_type, action }) => [resource, '*'].includes(resource_type) && ['read', '*'].includes(action),
  );
  if (about.some(({ negate }) => negate)) return false;
  return builtIn || about.length > 0 ? true : undefined;
}

/** Whether a user may know of every organization, or of every user. */
function knowsAll(world: World, callerId: string, resource: 'organization' | 'user'): boolean {
  const held = world.users.find(({ id }) => id === callerId)?.rbac_roles ?? [];
  if (['owner', 'template-admin', 'user-admin', 'auditor'].some((role) => held.includes(role))) return true;
  const heldIn = (organizationId: string | null): readonly string[] =>
    organizationId === null
      ? held
      : world.organization_members
          .filter(({ user_id, organization_id }) => user_id === callerId && organization_id === organizationId)
          .flatMap(({ roles }) => roles);
  const about = world.custom_roles
    .filter(({ organization_id, name }) => heldIn(organization_id).includes(name))
    .flatMap(({ site_permissions }) => site_permissions)
    .filter(({ resource_type, action }) => [resource, '*'].includes(resource_type) && ['read', '*'].includes(action));
  return about.length > 0 && !about.some(({ negate }) => negate);
}

function organizationsOf(world: World, userId: string): string[] {
  return world.organization_members.filter(({ user_id }) => user_id === userId).map(({ organization_id }) => organization_id);
}

// ---- What a query means ------------------------------------------------------------------------------------------------------

const booleans: Readonly<Record<string, boolean>> = { true: true, t: true, 1: true, false: false, f: false, 0: false };
const isBoolean = (value: string): boolean => Object.hasOwn(booleans, value);
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const oneOf =
  (words: string) =>
  (value: string): boolean =>
    words.split(' ').includes(value);

/** Which values a key may have, and whether it may have many. */
const keys: Readonly<
  Record<string, { readonly good: (value: string) => boolean; readonly many?: true; readonly isTime?: true }>
> = {
  owner: { good: () => true },
  name: { good: () => true },
  template: { good: () => true },
  organization: { good: () => true },
  prompt: { good: (value) => [...value].length >= 3 },
  id: { good: (value) => toUuid(value) !== undefined, many: true },
  status: { good: oneOf('pending starting running stopping stopped failed canceling canceled deleting deleted') },
  phase: { good: oneOf('pending initializing active paused unknown error') },
  state: { good: oneOf('working idle complete failed failure') },
  waiting: { good: isBoolean },
  'has-agent': { good: () => true, many: true },
  healthy: { good: isBoolean },
  dormant: { good: isBoolean },
  outdated: { good: isBoolean },
  has_external_agent: { good: isBoolean },
  'has-ai-task': { good: isBoolean },
  param: { good: (value) => /^[^=]*(=[^=]+)?$/.test(value), many: true },
  shared: { good: isBoolean },
  shared_with_user: { good: () => true },
  shared_with_group: { good: (value) => /^[^/]+(\/[^/]+)?$/.test(value) },
  created_after: { good: (value) => toTime(value) !== undefined, isTime: true },
  created_before: { good: (value) => toTime(value) !== undefined, isTime: true },
  last_used_after: { good: (value) => toTime(value) !== undefined, isTime: true },
  last_used_before: { good: (value) => toTime(value) !== undefined, isTime: true },
};

/** The values of each key of a query, lower-cased, and the keys and fields that are wrong. Keys with an empty value are left out. */
function readQuery(query: string): { terms: Map<string, string[]>; refused: Set<string> } {
  const terms = new Map<string, string[]>();
  const refused = new Set<string>();
  const words = pieces(query, ' ');
  if (new TextEncoder().encode(query).length > 4096 || words.length > 64) return { terms, refused: new Set(['query']) };

  const given: [key: string, value: string][] = [];
  const free: string[] = [];
  for (const word of words) {
    const parts = pieces(word, ':');
    const key = bare(parts[0] ?? '').toLowerCase();
    if (word.startsWith(':') || word.endsWith(':')) refused.add('query');
    else if (parts.length === 1) free.push(word);
    else if (parts.length === 2) given.push([key, bare(parts[1] ?? '').toLowerCase()]);
    else if (keys[key]?.isTime === true) given.push([key, bare(word.slice(word.indexOf(':') + 1)).toLowerCase()]);
    else refused.add('query');
  }
  const names = pieces(free.join(' '), '/').map((part) => pieces(part, ' ').map(bare).join(' ').toLowerCase());
  if (names.length > 2 || (names.length === 0 && free.length > 0)) refused.add('query');
  else if (names.length === 2) given.push(['owner', names[0] as string], ['name', names[1] as string]);
  else if (names.length === 1) given.push(['name', names[0] as string]);

  for (const [key, same] of Map.groupBy(given, ([name]) => name)) {
    const rule = Object.hasOwn(keys, key) ? keys[key] : undefined;
    const values = same.map(([, value]) => value);
    if (rule === undefined) refused.add(key);
    else if (values[0] === '') {
      if (key === 'outdated') terms.set(key, ['true']);
    } else {
      const list = rule.many === true ? values.flatMap((value) => value.split(',').map((one) => one.trim())) : values;
      const wanted = key === 'id' ? list : list.filter((value) => value !== ''); // an empty id is a wrong one
      if (!wanted.every(rule.good) || list.length > (rule.many === true ? 200 : 1)) refused.add(key);
      else terms.set(key, wanted);
    }
  }
  return { terms, refused };
}

/** The parts of a text between separators that are not in quotation marks; empty parts do not count. */
function pieces(text: string, separator: string): string[] {
  return text.match(new RegExp(`(?:[^${separator}"]|"[^"]*(?:"|$))+`, 'g')) ?? [];
}

function bare(text: string): string {
  return text.replace(/^"*|"*$/g, '');
}

/** A UUID in any of the forms that a query takes, in the usual one. */
function toUuid(text: string): string | undefined {
  const plain = text.startsWith('urn:uuid:') ? text.slice(9) : text.length === 38 ? text.slice(1, -1) : text;
  const dashed = plain.replace(/^([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/, '$1-$2-$3-$4-$5');
  return uuid.test(dashed) ? dashed : undefined;
}

/** A day or an RFC 3339 time as DATETIME(6) in UTC. */
function toTime(text: string): string | undefined {
  const [, day, clock = '00:00:00', fraction = '', zone = 'z'] =
    /^(\d{4}-\d\d-\d\d)(?:t(\d\d:\d\d:\d\d)(?:\.(\d+))?(z|[+-]\d\d:\d\d))?$/.exec(text) ?? [];
  const utc = new Date(`${day}T${clock}Z`);
  // What is no time of the calendar comes back as another one, or not at all.
  if (day === undefined || Number.isNaN(utc.getTime()) || utc.toISOString().slice(0, 19) !== `${day}T${clock}`) return undefined;
  const [hours, minutes] = zone === 'z' ? [0, 0] : zone.slice(1).split(':').map(Number);
  if (hours === undefined || minutes === undefined || hours > 23 || minutes > 59) return undefined;
  const shift = (zone.startsWith('-') ? 1 : -1) * (hours * 60 + minutes) * 60_000;
  return `${new Date(utc.getTime() + shift).toISOString().slice(0, 19).replace('T', ' ')}.${fraction.slice(0, 6).padEnd(6, '0')}`;
}

/** The ids that the names in a query mean; a name that the caller may not know of is refused like one that does not exist. */
interface Names {
  readonly organization: string | undefined;
  readonly user: string | undefined;
  readonly group: string | undefined;
}

function resolveNames(
  world: World,
  callerId: string,
  terms: ReadonlyMap<string, readonly string[]>,
): Names | { readonly refused: string[] } {
  const mine = organizationsOf(world, callerId);
  const knowsOrganization = (id: string) => knowsAll(world, callerId, 'organization') || mine.includes(id);
  const knowsUser = (id: string) =>
    id === callerId ||
    knowsAll(world, callerId, 'user') ||
    organizationsOf(world, id).some((organization) => mine.includes(organization));
  const live = world.organizations.filter(({ deleted }) => !deleted);
  const inOrganization = (name: string | undefined) =>
    live.find((organization) => (name === undefined ? organization.is_default : organization.name.toLowerCase() === name))?.id;

  const wanted = (key: string) => terms.get(key)?.[0];
  const organization = wanted('organization');
  const organizationId =
    organization === undefined || uuid.test(organization)
      ? organization
      : live.find(({ id, name }) => name.toLowerCase() === organization && knowsOrganization(id))?.id;
  const user = wanted('shared_with_user');
  const found = user === undefined ? undefined : userOf(world, callerId, user);
  const userId = found !== undefined && !uuid.test(user ?? '') && !knowsUser(found) ? undefined : found;
  const group = wanted('shared_with_group');
  const [first, second] = group?.split('/') ?? [];
  const groupId =
    group === undefined || uuid.test(group)
      ? group
      : world.groups.find(
          ({ organization_id, name }) =>
            name.toLowerCase() === (second ?? first) &&
            organization_id === inOrganization(second === undefined ? undefined : first) &&
            knowsOrganization(organization_id),
        )?.id;
  const refused = [
    ...(organization !== undefined && organizationId === undefined ? ['organization'] : []),
    ...(group !== undefined && groupId === undefined ? ['shared_with_group'] : []),
    ...(user !== undefined && userId === undefined ? ['shared_with_user'] : []),
  ];
  return refused.length > 0 ? { refused } : { organization: organizationId, user: userId, group: groupId };
}

/** The user that `me`, an id, or a username in lower case means. An id is taken as it is. */
function userOf(world: World, callerId: string, text: string): string | undefined {
  if (text === 'me') return callerId;
  if (uuid.test(text)) return text;
  return world.users.find(({ username, deleted }) => !deleted && username.toLowerCase() === text)?.id;
}

/** Whether a task is what each term asks for, but for the owner. */
function matches(world: World, known: Known, terms: ReadonlyMap<string, readonly string[]>, names: Names): boolean {
  const { workspace, latest, task } = known;
  const template = world.templates.find(({ id }) => id === workspace.template_id);
  const isWaiting = task.phase === TaskPhase.ACTIVE && task.currentState?.state === TaskState.IDLE;
  const shared = Object.keys(workspace.user_acl).length + Object.keys(workspace.group_acl).length > 0;
  const agentWords = [
    ...(terms.get('has-agent') ?? []),
    ...(terms.get('healthy') ?? []).flatMap((value) => (booleans[value] === true ? ['connected'] : ['disconnected', 'timeout'])),
  ];
  const holds: Readonly<Record<string, (values: readonly string[], value: string) => boolean>> = {
    owner: () => true,
    name: (_, value) => hasPart(workspace.name, value),
    prompt: (_, value) => hasPart([...known.prompt].slice(0, 1000).join(''), value),
    template: (_, value) => template !== undefined && !template.deleted && template.name.toLowerCase() === value,
    organization: () => workspace.organization_id === names.organization,
    id: (values) => values.some((value) => toUuid(value) === workspace.id),
    status: (_, value) => task.status === word(WorkspaceStatus, value),
    phase: (_, value) => task.phase === word(TaskPhase, value),
    state: (_, value) => task.currentState?.state === word(TaskState, value === 'failure' ? 'failed' : value),
    waiting: (_, value) => isWaiting === booleans[value],
    'has-agent': () => agentWords.length === 0 || known.agents.some((agent) => agentWords.includes(agent)),
    healthy: () => known.agents.some((agent) => agentWords.includes(agent)),
    dormant: (_, value) => booleans[value] === false || workspace.dormant_at !== null,
    outdated: (_, value) =>
      template !== undefined && (template.active_version_id !== latest.template_version_id) === booleans[value],
    has_external_agent: (_, value) => latest.has_external_agent === booleans[value],
    'has-ai-task': () => true,
    param: (values) => hasParameters(known, values),
    shared: (_, value) => shared === booleans[value],
    shared_with_user: () => names.user !== undefined && Object.hasOwn(workspace.user_acl, names.user),
    shared_with_group: () => names.group !== undefined && Object.hasOwn(workspace.group_acl, names.group),
    created_after: (_, value) => isZero(value) || workspace.created_at >= (toTime(value) ?? ''),
    created_before: (_, value) => isZero(value) || workspace.created_at <= (toTime(value) ?? ''),
    last_used_after: (_, value) => isZero(value) || workspace.last_used_at >= (toTime(value) ?? ''),
    last_used_before: (_, value) => isZero(value) || workspace.last_used_at <= (toTime(value) ?? ''),
  };
  const visible = !workspace.deleted || terms.get('status')?.[0] === 'deleted';
  return visible && [...terms].every(([key, values]) => holds[key]?.(values, values[0] ?? '') === true);
}

/** Whether a text has a part in any case. Half a character is no part of one. */
function hasPart(text: string, part: string): boolean {
  return Buffer.from(text.toLowerCase()).includes(Buffer.from(part));
}

/** Coder's zero time, which is no filter. */
function isZero(value: string): boolean {
  return toTime(value) === '0001-01-01 00:00:00.000000';
}

function hasParameters({ parameters }: Known, wanted: readonly string[]): boolean {
  const names = wanted.filter((value) => !value.includes('='));
  const pairs = wanted.filter((value) => value.includes('='));
  return (
    (names.length === 0 || parameters.some(([name]) => names.includes(name))) &&
    (pairs.length === 0 || parameters.some(([name, value]) => pairs.includes(`${name}=${value}`)))
  );
}

// ---- In which order ----------------------------------------------------------------------------------------------------------

type Compare = (a: Known, b: Known) => number;

/** Compares texts by their bytes in UTF-8. */
function compareTexts(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** A time as a text that sorts; none comes before all others. */
function timeKey(time: Timestamp | undefined): string {
  return time === undefined ? '' : `${String(time.seconds).padStart(12, '0')} ${String(time.nanos).padStart(9, '0')}`;
}

function byDefault(isOwn: boolean): Compare {
  const first = (a: boolean, b: boolean) => Number(b) - Number(a);
  return (a, b) =>
    (isOwn ? first(a.workspace.favorite, b.workspace.favorite) : 0) ||
    first(a.running, b.running) ||
    compareTexts(a.workspace.name.toLowerCase(), b.workspace.name.toLowerCase()) ||
    compareTexts(a.workspace.id, b.workspace.id);
}

function byColumn(order: string): Compare {
  const [column, direction] = order.split(' ');
  const key = ({ workspace, task }: Known) => {
    if (column === 'current_state.timestamp') return timeKey(task.currentState?.timestamp);
    return column === 'name' ? workspace.name.toLowerCase() : workspace.created_at;
  };
  const sign = direction === 'desc' ? -1 : 1;
  return (a, b) => sign * (compareTexts(key(a), key(b)) || compareTexts(a.workspace.id, b.workspace.id));
}

// ---- Small things ------------------------------------------------------------------------------------------------------------

/** The value of an enum by the database's word for it. */
function word<Value extends number>(values: Readonly<Record<string, string | Value>>, name: string): Value {
  return values[name.toUpperCase()] as Value;
}

function timestamp(datetime: string): Timestamp {
  const seconds = Date.parse(`${datetime.slice(0, 19).replace(' ', 'T')}Z`) / 1000;
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: Number(datetime.slice(20)) * 1000 });
}
