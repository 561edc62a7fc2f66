import type { CoderDatabase } from './coder-database.ts';
import { parseLsn } from './lsn.ts';
import type { PublishedTables, ReplicationNames } from './publication.ts';
import { SyncError } from './sync-error.ts';

/** The replication slot, as PostgreSQL has it. */
export interface SlotStatus {
  /** Up to here everything is confirmed; undefined when the slot is lost. */
  readonly confirmed: bigint | undefined;
  /** How far the log has gone on since, in bytes. */
  readonly behindBytes: number;
  /** How much of the log it keeps on PostgreSQL's disk, in bytes. */
  readonly retainedBytes: number;
  /** `reserved`, `extended`, `unreserved` (about to be lost) or `lost`. */
  readonly walStatus: string;
  /** How much more may be written before it is lost; undefined without a limit. */
  readonly safeBytes: number | undefined;
  /** The setting `max_slot_wal_keep_size`, such as `50GB`; with -1, a slot that nobody reads fills the disk. */
  readonly keepSize: string;
  /** The process of PostgreSQL that serves its reader. */
  readonly activePid: string | undefined;
}

/** What was found in PostgreSQL, when it can be followed. */
export interface ReplicationStanding {
  /** Identifies the publications and their tables. It changes when a table is taken out and put in again. */
  readonly publications: string;
  /** Undefined when there is none. */
  readonly slot: SlotStatus | undefined;
}

/**
 * Looks whether PostgreSQL can be followed. Nothing is changed there.
 *
 * @throws {SyncError} when somebody has to do something there, in one line that says what.
 */
export async function checkReplication(
  coder: CoderDatabase,
  names: ReplicationNames,
  tables: PublishedTables,
): Promise<ReplicationStanding> {
  const [server = []] = await coder.rows(serverQuery);
  const [walLevel, inRecovery, database] = server;
  if (inRecovery === 't') {
    throw new SyncError(
      "Coder's PostgreSQL is a read replica, which cannot be followed: use its primary, or poll (sync --poll, CODER_POLL_SECONDS)",
    );
  }
  if (walLevel !== 'logical') {
    throw new SyncError(
      `wal_level of Coder's PostgreSQL is ${walLevel ?? '?'}: set it to logical and restart it, or poll (sync --poll, CODER_POLL_SECONDS)`,
    );
  }
  const publications = await checkPublications(coder, names, tables);
  const slot = await readSlot(coder, names.slot);
  if (slot !== undefined && (slot.plugin !== 'pgoutput' || slot.database !== database)) {
    throw new SyncError(
      `the slot ${names.slot} is of ${slot.plugin} in database ${slot.database}, and not of pgoutput in ${database ?? '?'}: drop it, or name another one`,
    );
  }
  return { publications, slot };
}

/** Says that there is no slot, and what to do. */
export function missingSlot({ slot }: ReplicationNames): SyncError {
  return new SyncError(
    `Coder's PostgreSQL has no replication slot ${slot}: run select pg_create_logical_replication_slot('${slot}', 'pgoutput'), see sync grants`,
  );
}

const serverQuery = "select current_setting('wal_level'), pg_is_in_recovery(), current_database()";

/**
 * The publications with their tables. `pg_publication_rel` gives a table another number each time that it is put in. There are row
 * filters and lists of columns since PostgreSQL 15; a table without a list has all columns in `attnames`.
 */
const publicationsQuery = `
  select p.pubname, p.oid || ':' || coalesce(r.oid, 0), t.tablename,
    concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
      case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end),
    to_jsonb(t) ->> 'rowfilter' is not null
      or coalesce(jsonb_array_length(nullif(to_jsonb(t) -> 'attnames', 'null')), c.relnatts)
        < (select count(*) from pg_attribute as a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''),
    c.relreplident in ('f', 'i') or c.relreplident = 'd' and exists (
      select 1 from pg_index as i where i.indrelid = c.oid and i.indisprimary
    )
  from pg_publication as p
  left join pg_publication_tables as t on t.pubname = p.pubname
  left join pg_class as c on c.relname = t.tablename and c.relnamespace = to_regnamespace(quote_ident(t.schemaname))
  left join pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
  where p.pubname = any($1)
  order by p.pubname, t.tablename`;

async function checkPublications(coder: CoderDatabase, names: ReplicationNames, tables: PublishedTables): Promise<string> {
  const rows = (await coder.rows(publicationsQuery, [[names.publication, names.inserts]])).map(
    ([publication, identity, table, published, isPartial, isIdentified]) => ({
      publication,
      identity,
      table,
      operations: (published ?? '').split(', '),
      isPartial: isPartial === 't',
      isIdentified: isIdentified === 't',
    }),
  );
  const wanted = {
    publication: ['insert', 'update', 'delete', 'truncate'],
    inserts: ['insert', 'truncate'],
  } as const;
  for (const kind of ['publication', 'inserts'] as const) {
    const name = names[kind];
    const found = rows.filter(({ publication }) => publication === name);
    const [first] = found;
    if (first === undefined) {
      throw new SyncError(
        `Coder's PostgreSQL has no publication ${name}: run what sync grants prints, or poll (sync --poll, CODER_POLL_SECONDS)`,
      );
    }
    const lacking = tables[kind].filter((table) => !found.some((row) => row.table === table));
    if (lacking.length > 0) {
      const list = lacking.join(', ');
      throw new SyncError(`the publication ${name} lacks ${list}: run alter publication ${name} add table ${list}`);
    }
    if (wanted[kind].some((operation) => !first.operations.includes(operation))) {
      throw new SyncError(
        `the publication ${name} publishes only ${first.operations.join(', ')}: ` +
          `run alter publication ${name} set (publish = '${wanted[kind].join(', ')}')`,
      );
    }
    const harmed = found.find(
      ({ operations, isIdentified }) => !isIdentified && (operations.includes('update') || operations.includes('delete')),
    );
    if (harmed !== undefined) {
      const table = harmed.table ?? '';
      throw new SyncError(
        `the publication ${name} makes updates and deletes of ${table} fail in Coder, since it has no replica identity: ` +
          `run alter publication ${name} drop table ${table}`,
      );
    }
    const partial = found.find(({ isPartial }) => isPartial);
    if (partial !== undefined) {
      throw new SyncError(
        `the publication ${name} must have all rows and columns of ${partial.table ?? ''}: make it anew, see sync grants`,
      );
    }
  }
  return rows.map(({ identity }) => identity).join(' ');
}

/** Reads how a slot is doing, on a primary. */
export async function readSlot(
  coder: CoderDatabase,
  slot: string,
): Promise<(SlotStatus & { readonly plugin: string; readonly database: string }) | undefined> {
  const [row] = await coder.rows(slotQuery, [slot]);
  if (row === undefined) return undefined;
  const [plugin, database, activePid, confirmed = null, walStatus, safeBytes = null, behind, retained = null, keepSize] = row;
  const isLost = walStatus === 'lost' || retained === null;
  return {
    plugin: plugin ?? '',
    database: database ?? '',
    confirmed: isLost || confirmed === null ? undefined : parseLsn(confirmed),
    behindBytes: Math.max(0, Number(behind ?? 0)),
    retainedBytes: Math.max(0, Number(retained ?? 0)),
    walStatus: isLost ? 'lost' : (walStatus ?? 'reserved'),
    safeBytes: safeBytes === null ? undefined : Number(safeBytes),
    keepSize: keepSize ?? '',
    activePid: activePid ?? undefined,
  };
}

const slotQuery = `
  select s.plugin, s.database, s.active_pid, s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size,
    pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn), pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn),
    current_setting('max_slot_wal_keep_size')
  from pg_replication_slots as s where s.slot_name = $1 and s.slot_type = 'logical'`;

/** What an operator has to know of a slot, a line each. */
export function describeSlot(name: string, slot: SlotStatus | undefined): string[] {
  if (slot === undefined) return [`slot: there is no ${name} in Coder's PostgreSQL, and nothing of its log is kept for it`];
  const reader = slot.activePid === undefined ? 'nobody reads it' : `process ${slot.activePid} of PostgreSQL serves its reader`;
  if (slot.confirmed === undefined) return [`slot: ${name} is lost, and made anew when it is followed; ${reader}`];
  const left = slot.safeBytes === undefined ? '' : `, and is lost after ${megabytes(slot.safeBytes)} more`;
  return [
    `slot: ${name} is ${megabytes(slot.behindBytes)} behind; ${reader}`,
    `slot: it keeps ${megabytes(slot.retainedBytes)} of the log on PostgreSQL's disk (${slot.walStatus})${left}`,
    slot.keepSize === '-1'
      ? "slot: max_slot_wal_keep_size is -1: if nobody reads the slot, it fills PostgreSQL's disk"
      : `slot: max_slot_wal_keep_size is ${slot.keepSize}`,
  ];
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
