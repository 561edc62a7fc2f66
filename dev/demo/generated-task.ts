import { formatUuid } from '../../src/db/uuid.ts';
import type { ReportText } from './demo-data.ts';
import { conditions, places, reports, situationShares, stateShares, subjects, verbs } from './generate-words.ts';
import { asUuid, epoch, organizationOf, ownerOf, sharedId, teams, templates, versions } from './generated-people.ts';
import { seededRandom } from './seeded-random.ts';
import { type Situation, type Step, situations } from './situations.ts';
import type { SourceRows } from './source-rows.ts';
import { buildsOf } from './workspace-history.ts';
import { addWorkspace, day, second } from './workspace-plan.ts';

/**
 * Makes the ids of a task; the first is the workspace's. They begin with the task's number, like UUIDs of version 7 with the
 * time, so that inserts stay fast when the tables are larger than the memory.
 */
export function taskIds(seed: number, task: number): () => Buffer {
  const random = seededRandom(seed, task, 2);
  return () => {
    const id = Buffer.allocUnsafe(16);
    id.writeUIntBE(epoch / 1000 + task, 0, 6);
    for (const at of [6, 10, 12]) id.writeUInt32BE(Math.floor(random() * 2 ** 32), at);
    return asUuid(id, 7);
  };
}

/** Adds the rows of task number `task` of a seed, which are always the same. */
export function addGeneratedTask(rows: SourceRows, seed: number, task: number): void {
  const random = seededRandom(seed, task, 3);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const partId = taskIds(seed, task);
  const id = partId();
  const owner = ownerOf(task, random);
  const organization = organizationOf(owner);
  const template = pick(templates).name;
  const situation = pickShare<Situation>(situationShares, random());
  const steps: readonly Step[] = situations[situation];
  const verb = pick(verbs);
  const subject = pick(subjects);
  // At least two minutes: agents need some time before their first report.
  const latest = epoch - 120 * second - Math.floor(random() ** 1.5 * 180 * day);
  const builds = buildsOf({
    steps,
    latest,
    now: epoch,
    random,
    task: true,
    versionId: sharedId('version', organization, template, random() < 0.1 ? versions[0] : versions[1]),
    prompt: `${verb[0]} ${subject[0]} ${pick(places)}. ${pick(conditions)}`,
    says: saysOf(random, pick),
  });
  const last = steps.at(-1);
  const shared = random() < 0.04 ? shareOf(task, organization, random) : {};
  addWorkspace(rows, {
    id,
    ownerId: sharedId('user', owner),
    organizationId: sharedId('organization', organization),
    templateId: sharedId('template', organization, template),
    name: `${verb[1]}-${subject[1]}-${seed.toString(36)}-${task.toString(36)}`,
    createdAt: builds[0]?.at ?? latest,
    lastUsedAt: latest,
    dormantAt: last?.transition === 'stop' && random() < 0.04 ? epoch : undefined,
    favorite: random() < 0.02,
    deleted: situation === 'deleted',
    ...shared,
    builds,
    resource: ['docker_container', 'workspace'],
    partId,
  });
}

/** Up to three reports, of which the last is the present state. */
function saysOf(random: () => number, pick: (texts: readonly ReportText[]) => ReportText): ReportText[] {
  const before = Math.floor(random() ** 2 * 3);
  const state = pickShare(stateShares, random());
  return [...Array.from({ length: before }, () => pick(reports.working)), pick(reports[state])];
}

/** Shares a task with a user, a team or everyone in the organization. */
function shareOf(task: number, organization: number, random: () => number) {
  const permissions = ['application_connect', 'read', 'ssh', 'start', 'stop'];
  const kind = random();
  if (kind < 0.6) return { userAcl: { [formatUuid(sharedId('user', ownerOf(task, random)))]: permissions } };
  const team = teams[Math.floor(random() * teams.length)] ?? teams[0];
  const subject = kind < 0.9 ? sharedId('group', organization, team) : sharedId('organization', organization);
  return { groupAcl: { [formatUuid(subject)]: permissions } };
}

function pickShare<Key extends string>(shares: Readonly<Partial<Record<Key, number>>>, random: number): Key {
  const entries = Object.entries(shares) as [Key, number][];
  let left = random * entries.reduce((sum, [, share]) => sum + share, 0);
  for (const [key, share] of entries) {
    left -= share;
    if (left < 0) return key;
  }
  return (entries[0] as [Key, number])[0];
}
