import type { Database } from '../db/connection.ts';
import { inTransaction } from '../db/transaction.ts';
import { formatUuid } from '../db/uuid.ts';
import { pendingTasks, taskIdsAfter } from '../schema/outbox.ts';
import { errorForLog, processOrDeadLetter } from './dead-letters.ts';
import { eventKinds } from './feed.ts';
import { aclText, batchesOf, compareTasks, differingColumns } from './read-model.ts';

/** A value of the read model or of the feed that is wrong. */
interface Inconsistency {
  /** A UUID; absent when it concerns no single task. */
  readonly taskId?: string;
  /**
   * A column of `workspace_tasks`, `acl` for its rows of `workspace_task_acl`, `feed`, or `error` for a workspace that cannot be
   * compared.
   */
  readonly column: string;
  /** The stored value as text; long values are cut. */
  readonly stored: string;
  /** The expected value as text. */
  readonly expected: string;
}

/** Workspaces that are compared in one snapshot. It must be short: the engine keeps old versions of rows meanwhile. */
const workspacesPerSnapshot = 100;

/**
 * Compares the whole read model with the source tables, and the feed with the read model. Each difference is reported as it is
 * found; returns how many there are.
 *
 * It may run at any time. Each part is compared in one snapshot of all tables, where a change is either projected or in the
 * outbox: a task with a change in the outbox is not reported.
 *
 * Of the feed it checks that the sequence has no gaps, that the last event of a task agrees with its row, and, when nothing was
 * ever pruned, that each task has an event.
 */
export async function verify(database: Database, report: (difference: Inconsistency) => void): Promise<number> {
  let count = 0;
  const tell = (difference: Inconsistency) => {
    count += 1;
    report(difference);
  };
  let after: Buffer | undefined;
  do {
    const ids = await taskIdsAfter(database, after, workspacesPerSnapshot);
    await processOrDeadLetter(
      ids,
      async (some, begin) => {
        const found: Inconsistency[] = [];
        await inSnapshot(database, async (snapshot) => {
          begin();
          for await (const part of batchesOf(snapshot, some)) found.push(...(await verifyPart(snapshot, part)));
        });
        found.forEach(tell);
      },
      async (id, error) => {
        const brief = errorForLog(error);
        const why = 'reason' in brief ? brief.reason : String(error);
        tell({ taskId: formatUuid(id), column: 'error', stored: 'not compared', expected: show(why) });
      },
      { patient: true },
    );
    after = ids.at(-1);
  } while (after !== undefined);
  await inSnapshot(database, (snapshot) => verifyFeed(snapshot, tell));
  return count;
}

/** An inconsistency as a line of text: task, column, stored value, expected value. */
export function describeInconsistency({ taskId = 'feed', column, stored, expected }: Inconsistency): string {
  return `${taskId} ${column}: stored ${stored}, expected ${expected}`;
}

function inSnapshot<T>(database: Database, work: (snapshot: Database) => Promise<T>): Promise<T> {
  return inTransaction(database, work, { isolationLevel: 'repeatable read' });
}

async function verifyPart(snapshot: Database, ids: Buffer[]): Promise<Inconsistency[]> {
  const found: Inconsistency[] = [];
  const tell = (difference: Inconsistency): void => void found.push(difference);
  const differences = await compareTasks(snapshot, ids);
  const waiting = await pendingTasks(
    snapshot,
    differences.map(({ id }) => id),
  );
  for (const { id, stored, expected, aclDiffers } of differences) {
    if (waiting.has(id.toString('hex'))) continue;
    const taskId = formatUuid(id);
    if (stored.row === undefined || expected.row === undefined) {
      const say = (row: unknown) => (row === undefined ? 'no row' : 'a row');
      if (stored.row !== expected.row) tell({ taskId, column: 'id', stored: say(stored.row), expected: say(expected.row) });
    } else {
      for (const column of differingColumns(stored.row, expected.row)) {
        tell({ taskId, column, stored: show(stored.row[column]), expected: show(expected.row[column]) });
      }
    }
    if (aclDiffers) tell({ taskId, column: 'acl', stored: show(aclText(stored.acl)), expected: show(aclText(expected.acl)) });
  }
  return found;
}

async function verifyFeed(snapshot: Database, tell: (difference: Inconsistency) => void): Promise<void> {
  const [[state]] = (await snapshot.raw(
    'select `s`.`seq`, `s`.`floor_seq`, ' +
      '(select count(*) from `task_events` as `e` where `e`.`seq` > `s`.`floor_seq`) as `events`, ' +
      'coalesce((select max(`e`.`seq`) from `task_events` as `e` where `e`.`seq` > `s`.`floor_seq`), `s`.`floor_seq`) as `newest` ' +
      'from `projector_state` as `s` where `s`.`id` = 1',
  )) as [{ seq: number; floor_seq: number; events: number; newest: number }[]];
  if (state === undefined) {
    tell({ column: 'feed', stored: 'no state', expected: 'a row of projector_state' });
    return;
  }
  const { seq, floor_seq, events, newest } = state;
  if (events !== seq - floor_seq || newest !== seq) {
    const expected = `${seq - floor_seq} events up to number ${seq}`;
    tell({ column: 'feed', stored: `${events} events up to number ${newest}`, expected });
  }
  const [last] = (await snapshot.raw(
    'select `e`.`task_id`, `e`.`kind`, `e`.`owner_id`, `e`.`organization_id`, ' +
      '`t`.`owner_id` as `row_owner_id`, `t`.`organization_id` as `row_organization_id` ' +
      'from (select max(`n`.`seq`) as `seq` from `task_events` as `n` where `n`.`seq` > ? group by `n`.`task_id`) as `m` ' +
      'inner join `task_events` as `e` on `e`.`seq` = `m`.`seq` left join `workspace_tasks` as `t` on `t`.`id` = `e`.`task_id` ' +
      'where not (`e`.`owner_id` <=> `t`.`owner_id`) or not (`e`.`organization_id` <=> `t`.`organization_id`) ' +
      'or (`e`.`kind` = ?) <> (`t`.`id` is null)',
    [floor_seq, eventKinds.removed],
  )) as [
    {
      task_id: Buffer;
      kind: number;
      owner_id: Buffer | null;
      organization_id: Buffer | null;
      row_owner_id: Buffer | null;
      row_organization_id: Buffer | null;
    }[],
  ];
  for (const event of last) {
    const place = (owner: Buffer | null, organization: Buffer | null) =>
      owner === null ? 'removed' : `of ${show(owner)} in ${show(organization)}`;
    tell({
      taskId: formatUuid(event.task_id),
      column: 'feed',
      stored: place(event.owner_id, event.organization_id),
      expected: place(event.row_owner_id, event.row_organization_id),
    });
  }
  if (floor_seq > 0) return;
  const [silent] = (await snapshot.raw(
    'select `t`.`id` from `workspace_tasks` as `t` where not exists ' +
      '(select 1 from (select distinct `e`.`task_id` from `task_events` as `e`) as `m` where `m`.`task_id` = `t`.`id`)',
  )) as [{ id: Buffer }[]];
  for (const { id } of silent) {
    tell({ taskId: formatUuid(id), column: 'feed', stored: 'no event', expected: 'at least one' });
  }
}

/** Characters of a value that are shown. */
const maxShown = 120;

function show(value: Buffer | string | number | null): string {
  if (value === null) return 'NULL';
  const text = Buffer.isBuffer(value)
    ? value.length === 16
      ? formatUuid(value)
      : `0x${value.toString('hex')}`
    : JSON.stringify(value);
  return text.length > maxShown ? `${text.slice(0, maxShown)}… (${text.length} characters)` : text;
}
