import { createHash } from 'node:crypto';
import { formatUuid, parseUuid } from '../../src/db/uuid.ts';
import { type Age, type DemoTask, type DemoTemplate, demoPeople, demoTasks, demoWorkspaces, exampleTasks } from './demo-data.ts';
import { type Step, situations } from './situations.ts';
import { noRows, type SourceRows } from './source-rows.ts';
import { buildsOf } from './workspace-history.ts';
import {
  addWorkspace,
  connectedAgents,
  datetime,
  day,
  hour,
  type Micros,
  minute,
  second,
  type WorkspacePlan,
} from './workspace-plan.ts';

const units: Readonly<Record<string, Micros>> = { s: second, m: minute, h: hour, d: day, w: 7 * day };

/** The description of a workspace of the demo. */
interface Line extends Partial<Pick<DemoTask, 'prompt' | 'says' | 'favorite' | 'dormant' | 'shared' | 'outdated' | 'subAgent'>> {
  readonly owner: string;
  /** Key of a template. */
  readonly template: string;
  readonly name: string;
  readonly steps: readonly Step[];
  readonly age: Age;
  /** Whether succeeded builds have `has_ai_task`. */
  readonly task: boolean;
}

/**
 * The rows of the demo as of `now`: the same for the same `now`, and with the same ids, names and texts for any.
 *
 * All times are relative to `now`, except those of the two example tasks. They are not updated later.
 */
export function demoRows(now: Date): SourceRows {
  const rows = noRows();
  addPeople(rows, now.getTime() * 1000);
  addTemplates(rows, now.getTime() * 1000);
  for (const plan of demoPlans(now)) addWorkspace(rows, plan);
  return rows;
}

/** The ids of the connected agents of the demo. */
export function connectedDemoAgents(): Buffer[] {
  return demoPlans(new Date()).flatMap(connectedAgents);
}

function demoPlans(now: Date): WorkspacePlan[] {
  const clock = now.getTime() * 1000;
  return [
    ...exampleTasks.map((task) => examplePlan(task, clock)),
    ...Object.entries(demoTasks).flatMap(([owner, tasks]) =>
      tasks.map(({ situation, ...task }) => {
        const unique = digest(`${owner}/${task.name}`).toString('hex', 0, 2);
        const name = `task-${task.name}-${unique}`;
        return planOf({ ...task, owner, name, steps: situations[situation], task: true }, clock);
      }),
    ),
    ...demoWorkspaces.flatMap(({ names, situation, ...workspace }) =>
      names.map((name) => planOf({ ...workspace, name, steps: situations[situation], task: false }, clock)),
    ),
  ];
}

function addPeople(rows: SourceRows, now: Micros): void {
  for (const { name, displayName, icon } of demoPeople.organizations) {
    const id = organizationId(name);
    const made = datetime(back(now, 400 * day, name));
    rows.organizations.push({
      id,
      name,
      display_name: displayName,
      icon,
      is_default: name === demoPeople.organizations[0]?.name,
      deleted: false,
      created_at: made,
      updated_at: made,
    });
    rows.groups.push({ id, organization_id: id, name: 'Everyone', display_name: '', avatar_url: '' });
    for (const group of demoPeople.groups[name] ?? []) {
      rows.groups.push({ id: groupId(group), organization_id: id, name: group, display_name: '', avatar_url: '' });
    }
  }
  for (const user of demoPeople.users) {
    const id = userId(user.username);
    const made = datetime(back(now, 300 * day, user.username));
    rows.users.push({
      id,
      username: user.username,
      name: user.name,
      email: `${user.username}@example.com`,
      avatar_url: user.avatar,
      status: user.status ?? 'active',
      rbac_roles: JSON.stringify(user.roles ?? []),
      deleted: false,
      last_seen_at: datetime(back(now, user.status === undefined ? 20 * minute : 25 * day, `${user.username} seen`)),
      created_at: made,
      updated_at: made,
    });
    for (const [organization, roles] of Object.entries(user.organizations)) {
      rows.organization_members.push({
        organization_id: organizationId(organization),
        user_id: id,
        roles: JSON.stringify(roles),
        created_at: made,
        updated_at: made,
      });
    }
    for (const group of user.groups ?? []) rows.group_members.push({ user_id: id, group_id: groupId(group) });
  }
}

function addTemplates(rows: SourceRows, now: Micros): void {
  for (const template of demoPeople.templates) {
    const organization = organizationId(template.organization);
    const made = datetime(back(now, 200 * day, template.key));
    rows.templates.push({
      id: templateId(template),
      organization_id: organization,
      name: template.name,
      display_name: template.displayName,
      icon: template.icon,
      active_version_id: versionId(template),
      deleted: template.deleted ?? false,
      user_acl: '{}',
      group_acl: JSON.stringify({ [formatUuid(organization)]: ['read', 'use'] }),
      created_at: made,
      updated_at: made,
    });
    template.versions.forEach((name, index) => {
      const released = datetime(back(now, (200 * day) / (index + 1), `${template.key} ${name}`));
      rows.template_versions.push({
        id: versionId(template, name),
        template_id: templateId(template),
        organization_id: organization,
        name,
        has_ai_task: template.agent,
        created_at: released,
        updated_at: released,
      });
    });
  }
}

function examplePlan(task: (typeof exampleTasks)[number], now: Micros): WorkspacePlan {
  const line: Line = {
    owner: 'developer',
    template: 'coding',
    name: task.name,
    steps: situations.running,
    age: '0s',
    task: true,
  };
  const reported = micros(task.report.at);
  const createdAt = micros(task.createdAt);
  const plan = planOf({ ...line, prompt: task.prompt }, now);
  const builds = plan.builds.map((build) => ({ ...build, at: createdAt, reports: [{ ...task.report, at: reported }] }));
  return { ...plan, id: idBytes(task.id), createdAt, lastUsedAt: reported, builds };
}

function planOf(line: Line, now: Micros): WorkspacePlan {
  const key = `${line.owner}/${line.name}`;
  const template = templateOf(line.template);
  const latest = ago(now, line.age, key);
  const builds = buildsOf({
    ...line,
    latest,
    now,
    random: (word) => fraction(`${key} ${word}`),
    versionId: line.outdated === true ? versionId(template, template.versions[0]) : versionId(template),
    parameters: template.parameters,
    editor: true,
  });
  const last = line.steps.at(-1);
  return {
    id: demoId(`workspace ${key}`),
    ownerId: userId(line.owner),
    organizationId: organizationId(template.organization),
    templateId: templateId(template),
    name: line.name,
    createdAt: builds[0]?.at ?? latest,
    lastUsedAt: last?.agent?.connection === 'connected' ? Math.max(latest, back(now, 5 * minute, `${key} used`)) : latest,
    dormantAt: line.dormant === undefined ? undefined : ago(now, line.dormant, `${key} dormant`),
    favorite: line.favorite,
    deleted: last?.transition === 'delete' && last.job === 'succeeded',
    ...aclOf(line.shared ?? {}),
    builds,
    resource: template.resource,
    partId: (part) => demoId(`${part} of ${key}`),
  };
}

function aclOf(shared: NonNullable<DemoTask['shared']>): Pick<WorkspacePlan, 'userAcl' | 'groupAcl'> {
  const users: Record<string, readonly string[]> = {};
  const groups: Record<string, readonly string[]> = {};
  for (const [subject, actions] of Object.entries(shared)) {
    const name = subject.slice(1);
    if (!subject.startsWith('@')) users[formatUuid(userId(subject))] = actions;
    else
      groups[formatUuid(demoPeople.organizations.some((one) => one.name === name) ? organizationId(name) : groupId(name))] =
        actions;
  }
  return { userAcl: users, groupAcl: groups };
}

function templateOf(key: string): DemoTemplate {
  const template = demoPeople.templates.find((one) => one.key === key);
  if (template === undefined) throw new TypeError(`no template ${key}`);
  return template;
}

/** The id of a demo user, by username. */
function userId(username: string): Buffer {
  const user = demoPeople.users.find((one) => one.username === username);
  if (user === undefined) throw new TypeError(`no user ${username}`);
  return user.id === undefined ? demoId(`user ${username}`) : idBytes(user.id);
}

function organizationId(name: string): Buffer {
  const fixed = demoPeople.organizations.find((one) => one.name === name)?.id;
  return fixed === undefined ? demoId(`organization ${name}`) : idBytes(fixed);
}

function groupId(name: string): Buffer {
  if (!Object.values(demoPeople.groups).some((names) => names.includes(name))) throw new TypeError(`no group ${name}`);
  return demoId(`group ${name}`);
}

function templateId(template: DemoTemplate): Buffer {
  return template.id === undefined ? demoId(`template ${template.key}`) : idBytes(template.id);
}

/** The id of a version of a template, by default the active one. */
function versionId(template: DemoTemplate, name = template.versions.at(-1)): Buffer {
  return demoId(`version ${name} of template ${template.key}`);
}

/** `age` before `now`, roughly; see `back`. */
function ago(now: Micros, age: Age, key: string): Micros {
  return back(now, Number(age.slice(0, -1)) * (units[age.slice(-1)] ?? 0), key);
}

/** A time that is `span` before `now`, and up to a twelfth more, so that neither hours nor seconds are round ones. */
function back(now: Micros, span: Micros, key: string): Micros {
  return now - Math.floor(span * (1 + fraction(`${key} back`) / 12));
}

function micros(iso: string): Micros {
  return Date.parse(`${iso.slice(0, 19)}Z`) * 1000 + Number(iso.slice(20, 26));
}

/** A number from 0 to below 1, derived from a key. */
function fraction(key: string): number {
  return digest(key).readUIntBE(0, 6) / 2 ** 48;
}

/** An id in the form of a random UUID, derived from a key. */
function demoId(key: string): Buffer {
  const id = digest(key).subarray(0, 16);
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x40;
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return id;
}

function digest(key: string): Buffer {
  return createHash('sha256').update(`demo data: ${key}`).digest();
}

function idBytes(text: string): Buffer {
  const id = parseUuid(text);
  if (id === undefined) throw new TypeError(`not a UUID: ${text}`);
  return id;
}
