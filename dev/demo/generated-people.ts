import { createHash } from 'node:crypto';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { seededRandom } from './seeded-random.ts';
import { insertRows, noRows, presentIds, type SourceRows } from './source-rows.ts';
import { datetime, day, type Micros } from './workspace-plan.ts';

/** The time that all times are relative to. */
export const epoch: Micros = Date.parse('2026-11-01T00:00:00Z') * 1000;

const organizations = 8;

/** The users who may own the first `tasks` tasks have numbers below this one. */
function usersFor(tasks: number): number {
  return 2 + Math.ceil(50 + tasks / 12);
}

/** The owner of a task: one user has a seventh of all tasks, the others share the rest unevenly, see `generateTasks`. */
export function ownerOf(task: number, random: () => number): number {
  if (random() < 0.14) return 1;
  return 2 + Math.floor(random() ** 2 * (50 + task / 12));
}

/** The organization of a user, from 1 to 8. */
export function organizationOf(user: number): number {
  if (user === 1) return 1;
  if (user <= 1 + organizations) return user - 1;
  return 1 + Math.floor(seededRandom(user, 1)() ** 2.4 * organizations);
}

const username = (user: number) => `user-${String(user).padStart(5, '0')}`;
const organizationName = (organization: number) => `org-${String(organization).padStart(2, '0')}`;

/** The templates of each organization. */
export const templates = [
  { name: 'coding-agent', displayName: 'Coding Agent', icon: '/icon/tasks.svg' },
  { name: 'monorepo-agent', displayName: 'Agent on the Monorepo', icon: '/icon/git.svg' },
  { name: 'docs-agent', displayName: 'Documentation Writer', icon: '/emojis/1f4dd.png' },
] as const;

/** Versions of each template; the last is the active one. */
export const versions = ['v1', 'v2'] as const;

/** The groups of each organization. */
export const teams = ['team-a', 'team-b', 'team-c', 'team-d'] as const;

const cachedIds = new Map<string, Buffer>();

/** The id of a user, organization, template or group that all tasks share, derived from its name. */
export function sharedId(...path: readonly (string | number)[]): Buffer {
  const key = path.join('/');
  let id = cachedIds.get(key);
  if (id === undefined) {
    id = asUuid(createHash('sha256').update(`generated data: ${key}`).digest().subarray(0, 16), 4);
    cachedIds.set(key, id);
  }
  return id;
}

/** Turns 16 bytes, in place, into a UUID of a version. */
export function asUuid(id: Buffer, version: 4 | 7): Buffer {
  id[6] = ((id[6] ?? 0) & 0x0f) | (version << 4);
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return id;
}

/** Writes the organizations, templates and users that are missing, in one transaction. */
export async function writeGeneratedPeople(database: Database, tasks: number): Promise<void> {
  const rows = noRows();
  const made = datetime(epoch - 400 * day);
  const times = { created_at: made, updated_at: made };
  for (let number = 1; number <= organizations; number++) addOrganization(rows, number, times);
  for (let user = 1; user < usersFor(tasks); user++) {
    const organization = organizationOf(user);
    const id = sharedId('user', user);
    rows.users.push({
      id,
      username: username(user),
      name: `User ${user}`,
      email: `${username(user)}@example.com`,
      avatar_url: '',
      status: 'active',
      rbac_roles: '[]',
      deleted: false,
      last_seen_at: datetime(epoch),
      ...times,
    });
    const roles = user > 1 && user <= 1 + organizations ? '["organization-admin"]' : '[]';
    rows.organization_members.push({ organization_id: sharedId('organization', organization), user_id: id, roles, ...times });
    const team = teams[user % teams.length] ?? teams[0];
    rows.group_members.push({ user_id: id, group_id: sharedId('group', organization, team) });
  }
  await database.transaction(async (transaction) => {
    await insertRows(transaction, await missing(transaction, rows));
  });
}

function addOrganization(rows: SourceRows, number: number, times: { created_at: string; updated_at: string }): void {
  const id = sharedId('organization', number);
  const name = organizationName(number);
  rows.organizations.push({
    id,
    name,
    display_name: `Organization ${number}`,
    icon: '',
    is_default: false,
    deleted: false,
    ...times,
  });
  rows.groups.push({ id, organization_id: id, name: 'Everyone', display_name: '', avatar_url: '' });
  for (const team of teams) {
    rows.groups.push({ id: sharedId('group', number, team), organization_id: id, name: team, display_name: '', avatar_url: '' });
  }
  for (const { name: template, displayName, icon } of templates) {
    const templateId = sharedId('template', number, template);
    rows.templates.push({
      id: templateId,
      organization_id: id,
      name: template,
      display_name: displayName,
      icon,
      active_version_id: sharedId('version', number, template, versions.at(-1) ?? ''),
      deleted: false,
      user_acl: '{}',
      group_acl: JSON.stringify({ [formatUuid(id)]: ['read', 'use'] }),
      ...times,
    });
    for (const version of versions) {
      rows.template_versions.push({
        id: sharedId('version', number, template, version),
        template_id: templateId,
        organization_id: id,
        name: version,
        has_ai_task: true,
        ...times,
      });
    }
  }
}

/** The rows that are missing in the database. A user's memberships are written with the user. */
async function missing(database: Database, rows: SourceRows): Promise<SourceRows> {
  const users = await presentIds(
    database,
    'users',
    rows.users.map(({ id }) => id as Buffer),
  );
  const others = await presentIds(
    database,
    'organizations',
    rows.organizations.map(({ id }) => id as Buffer),
  );
  const isNew = (id: unknown) => !users.has((id as Buffer).toString('hex'));
  const ofNew = (id: unknown) => !others.has((id as Buffer).toString('hex'));
  return {
    ...rows,
    users: rows.users.filter(({ id }) => isNew(id)),
    organization_members: rows.organization_members.filter(({ user_id }) => isNew(user_id)),
    group_members: rows.group_members.filter(({ user_id }) => isNew(user_id)),
    organizations: rows.organizations.filter(({ id }) => ofNew(id)),
    groups: rows.groups.filter(({ organization_id }) => ofNew(organization_id)),
    templates: rows.templates.filter(({ organization_id }) => ofNew(organization_id)),
    template_versions: rows.template_versions.filter(({ organization_id }) => ofNew(organization_id)),
  };
}
