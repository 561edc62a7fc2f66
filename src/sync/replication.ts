import pg, { type Client, type ClientConfig } from 'pg';
import { LogicalReplicationService, type Pgoutput, PgoutputPlugin, type ReplicationClientConfig } from 'pg-logical-replication';
import { textSettings } from './coder-database.ts';
import { formatLsn, parseLsn } from './lsn.ts';
import { MessageQueue } from './message-queue.ts';

/**
 * Columns of a row in PostgreSQL's text form. In an update, a column is `undefined` when its value was left as it is and is stored
 * apart from the row (TOAST): then it is not sent.
 */
export type TextRow = Readonly<Record<string, string | null | undefined>>;

/** What logical replication tells, transaction by transaction in the order of the commits. */
export type ReplicationMessage =
  | {
      readonly kind: 'begin';
      /** The lower 32 bits of the transaction's number. */
      readonly xid: number;
      readonly commitLsn: bigint;
      /** When it was committed by PostgreSQL's clock, in milliseconds since 1970. */
      readonly committedAt: number;
    }
  | {
      readonly kind: 'commit';
      /** Where the log goes on after the transaction. */
      readonly endLsn: bigint;
    }
  /** Tells the columns of a table, before its first change and when they have changed. */
  | { readonly kind: 'relation'; readonly table: string; readonly columns: readonly string[] }
  | { readonly kind: 'insert'; readonly table: string; readonly row: TextRow }
  /** `old` has at least the key as it was, when it has changed. */
  | { readonly kind: 'update'; readonly table: string; readonly old: TextRow | undefined; readonly row: TextRow }
  | { readonly kind: 'delete'; readonly table: string; readonly old: TextRow }
  | { readonly kind: 'truncate'; readonly tables: readonly string[] }
  /** All that was committed up to a position has been told; it comes between transactions only. */
  | {
      readonly kind: 'position';
      readonly lsn: bigint;
      /** PostgreSQL asks how far we are: it shuts down, or has not heard of us for a while. */
      readonly asked: boolean;
    };

/** Where to read from. */
export interface ReplicationOptions {
  readonly connection: ClientConfig;
  readonly slot: string;
  readonly publications: readonly string[];
  /** The position up to which everything is stored. Only what was committed after it is told. */
  readonly from: bigint;
  /** After this time without a word, in milliseconds, the connection counts as lost; 45 seconds by default. */
  readonly silenceMs?: number | undefined;
}

/** One connection that tells the changes of a slot's publications. */
export interface Replication {
  /** How many messages have arrived and wait. */
  readonly waiting: number;
  /**
   * The next message; after so many milliseconds without one, `undefined`.
   *
   * @throws {Error} when the connection has ended.
   */
  next(milliseconds?: number): Promise<ReplicationMessage | undefined>;
  /** Resolves with the reason when the connection has ended, or PostgreSQL has gone silent, whatever the reader does then. */
  readonly ended: Promise<unknown>;
  /** Tells PostgreSQL that everything up to a position is stored and will not be asked for again. */
  acknowledge(lsn: bigint): void;
  close(): Promise<void>;
}

/** Which log a server writes. */
export interface ServerIdentity {
  /** Identifies the database: the system identifier of its cluster, and its name. */
  readonly source: string;
  /** A failover to another server, or a restored backup, begins another timeline. */
  readonly timeline: number;
}

/**
 * Asks a server by the protocol of replication, which managed ones answer that have no files of a log.
 *
 * @throws {Error} PostgreSQL's own when the role may not replicate.
 */
export async function identifyServer(connection: ClientConfig): Promise<ServerIdentity> {
  const config: ReplicationClientConfig = { ...connection, replication: 'database' };
  const client = new pg.Client(config);
  client.on('error', () => {}); // a connection that is lost fails what runs on it
  try {
    await client.connect();
    const { rows } = await client.query<{ systemid: string; timeline: string; dbname: string }>('IDENTIFY_SYSTEM');
    const [row] = rows;
    if (row === undefined) throw new Error('PostgreSQL does not say what it is');
    return { source: `${row.systemid} ${row.dbname}`, timeline: Number(row.timeline) };
  } finally {
    await client.end().catch(() => {});
  }
}

/** How much may wait to be applied, in bytes of the protocol; beyond it nothing more is read. */
const mostWaitingBytes = 4 * 1024 * 1024;

/**
 * How often PostgreSQL hears of us, in milliseconds: it ends a connection that says nothing for `wal_sender_timeout`, 60 seconds
 * unless told otherwise.
 */
const statusEveryMs = 10_000;

/** After this time without a word, in milliseconds, the connection counts as lost. PostgreSQL is asked for one well before. */
const defaultSilenceMs = 45_000;

/** Reads pgoutput's messages, with each value as its text. */
class TextPlugin extends PgoutputPlugin {
  /** How many messages were read. */
  parsed = 0;
  /** How many bytes a message had. */
  readonly sizes = new WeakMap<Pgoutput.Message, number>();
  readonly #onError: (error: unknown) => void;

  constructor(publicationNames: string[], onError: (error: unknown) => void) {
    super({ protoVersion: 1, publicationNames });
    this.#onError = onError;
  }

  override parse(buffer: Buffer): Pgoutput.Message {
    this.parsed += 1;
    try {
      const message = super.parse(buffer);
      if (message.tag === 'relation') for (const column of message.columns) column.parser = asText;
      this.sizes.set(message, buffer.length);
      return message;
    } catch (error) {
      // Thrown from here, it would end the process: nobody awaits what reads the socket.
      this.#onError(error);
      return { tag: 'origin', originLsn: null, originName: '' };
    }
  }

  override async start(client: Client, slotName: string, lastLsn: string): Promise<unknown> {
    await client.query(textSettings);
    return super.start(client, slotName, lastLsn);
  }
}

function asText(text: string): string {
  return text;
}

/**
 * Begins to read a slot; resolves when PostgreSQL has begun to send.
 *
 * Three things of the library are not used as they come. It would acknowledge by itself what has arrived, stored or not, each ten
 * seconds: that is switched off. It acknowledges the position after the one it is given: a transaction whose commit record begins
 * there would be taken for confirmed, so that it is given the one before. And it reads times and JSON into objects, which loses
 * microseconds: the columns' parsers are replaced.
 *
 * @throws {Error} PostgreSQL's own, such as that the slot is in use.
 */
export async function openReplication(options: ReplicationOptions): Promise<Replication> {
  const { connection, slot, publications, from, silenceMs = defaultSilenceMs } = options;
  const queue = new MessageQueue<ReplicationMessage>(mostWaitingBytes);
  const plugin = new TextPlugin([...publications], (error) => queue.fail(error));
  const service = new LogicalReplicationService(
    { ...connection, keepAlive: true },
    { acknowledge: { auto: false, timeoutSeconds: 0 }, flowControl: { enabled: true } },
  );
  let acknowledged = from;
  let delivered = 0;
  let inTransaction = false;
  let heardAt = performance.now();
  let closing = false;
  /** A position that PostgreSQL told after so many messages, not all of which are delivered yet. */
  let told: { readonly lsn: bigint; readonly asked: boolean; readonly after: number } | undefined;

  const tellPosition = (): void => {
    if (told === undefined || delivered < told.after) return;
    if (!inTransaction) void queue.push({ kind: 'position', lsn: told.lsn, asked: told.asked });
    told = undefined;
  };
  const status = (ask = false): void => {
    if (acknowledged > 0n) service.acknowledge(formatLsn(acknowledged - 1n), ask).catch((error: unknown) => queue.fail(error));
  };

  service.on('data', (_lsn: string, parsed: Pgoutput.Message) => {
    heardAt = performance.now();
    delivered += 1;
    const message = translate(parsed);
    if (message?.kind === 'begin') inTransaction = true;
    if (message?.kind === 'commit') inTransaction = false;
    const room = message === undefined ? undefined : queue.push(message, plugin.sizes.get(parsed));
    tellPosition();
    return room;
  });
  service.on('heartbeat', (lsn: string, _time: number, asked: boolean) => {
    heardAt = performance.now();
    told = { lsn: parseLsn(lsn), asked: asked || (told?.asked ?? false), after: plugin.parsed };
    tellPosition();
    if (asked) status();
  });
  service.on('error', (error: Error) => queue.fail(error));

  const started = new Promise<void>((resolve) => service.on('start', resolve));
  const ended = service.subscribe(plugin, slot, formatLsn(from)).then(
    () => new Error('PostgreSQL has ended the replication'),
    (error: unknown) => error,
  );
  const early = await Promise.race([started, ended.then((error) => ({ error }))]);
  if (early !== undefined) {
    await service.destroy().catch(() => {});
    throw early.error;
  }
  void ended.then((error) => queue.fail(error));

  const timer = setInterval(
    () => {
      // While it waits for room in the queue nothing is read, and the silence is ours.
      const silent = queue.length === 0 ? performance.now() - heardAt : 0;
      if (silent > silenceMs) queue.fail(new Error('PostgreSQL has gone silent'));
      status(silent > silenceMs / 2);
    },
    Math.min(statusEveryMs, silenceMs / 4),
  );

  return {
    get waiting() {
      return queue.length;
    },
    ended: queue.failed,
    next: (milliseconds) => queue.next(milliseconds),
    acknowledge(lsn) {
      if (lsn <= acknowledged || closing) return;
      acknowledged = lsn;
      status();
    },
    async close() {
      closing = true;
      clearInterval(timer);
      queue.fail(new Error('the replication was closed'));
      await service.destroy().catch(() => {});
    },
  };
}

function translate(message: Pgoutput.Message): ReplicationMessage | undefined {
  switch (message.tag) {
    case 'begin':
      return {
        kind: 'begin',
        xid: message.xid >>> 0,
        commitLsn: lsnOf(message.commitLsn),
        committedAt: Number(message.commitTime) / 1000,
      };
    case 'commit':
      return { kind: 'commit', endLsn: lsnOf(message.commitEndLsn) };
    case 'relation':
      return { kind: 'relation', table: message.name, columns: message.columns.map(({ name }) => name) };
    case 'insert':
      return { kind: 'insert', table: message.relation.name, row: message.new as TextRow };
    case 'update':
      return {
        kind: 'update',
        table: message.relation.name,
        old: (message.key ?? message.old ?? undefined) as TextRow | undefined,
        row: message.new as TextRow,
      };
    case 'delete':
      return { kind: 'delete', table: message.relation.name, old: (message.key ?? message.old ?? {}) as TextRow };
    case 'truncate':
      return { kind: 'truncate', tables: message.relations.map(({ name }) => name) };
    case 'message':
    case 'origin':
    case 'type':
      return undefined;
  }
}

function lsnOf(text: string | null): bigint {
  return text === null ? 0n : parseLsn(text);
}
