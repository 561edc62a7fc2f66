import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { type Engine, startEngineServer, type TestServer } from './engines.ts';
import { freePort } from './free-port.ts';

/** A server of a pair, with a pool for what an operator does. */
export interface PairedServer {
  /** How a service reaches it, but for the database. */
  readonly address: Omit<DatabaseAddress, 'database'>;
  readonly operator: Database;
  stop(): Promise<void>;
}

/** A primary with a replica that follows it by global transaction ids. */
export interface ReplicatedPair {
  readonly primary: PairedServer;
  readonly replica: PairedServer;
  /** Stops applying on the replica what it still receives, as one does that falls behind. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Makes the replica a primary of its own. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

/** The words of an engine for the same things. */
const words = {
  mariadb: {
    options: ['--gtid-strict-mode=ON'],
    follow: (port: number) =>
      `change master to master_host = '127.0.0.1', master_port = ${port}, master_user = 'follower', master_password = 'follows', master_connect_retry = 1, master_use_gtid = slave_pos`,
    start: 'start slave',
    pause: 'stop slave sql_thread',
    resume: 'start slave sql_thread',
    promote: ['stop slave', 'reset slave all', 'set global read_only = 0'],
  },
  mysql: {
    options: ['--gtid-mode=ON', '--enforce-gtid-consistency=ON'],
    follow: (port: number) =>
      `change replication source to source_host = '127.0.0.1', source_port = ${port}, source_user = 'follower', source_password = 'follows', source_connect_retry = 1, source_auto_position = 1, get_source_public_key = 1`,
    start: 'start replica',
    pause: 'stop replica sql_thread',
    resume: 'start replica sql_thread',
    promote: ['stop replica', 'reset replica all', 'set global read_only = 0'],
  },
} as const;

/** Starts a pair with its data in `folder`. */
export async function startPair(engine: Engine, folder: string): Promise<ReplicatedPair> {
  const { options, follow, start, pause, resume, promote } = words[engine === 'mysql' ? 'mysql' : 'mariadb'];
  const startOne = async (
    name: string,
    id: number,
    more: readonly string[] = [],
  ): Promise<[PairedServer, number, TestServer]> => {
    const port = await freePort();
    const settings = [
      '--skip-networking=OFF',
      '--bind-address=127.0.0.1',
      `--port=${port}`,
      '--log-bin=log',
      '--log-bin-trust-function-creators=ON',
      `--server-id=${id}`,
      ...options,
      ...more,
    ];
    const server = await startEngineServer(engine, join(folder, name), settings, false); // a hostile replica would not follow
    const operator = openDatabase({ ...server.address, database: '' }, { size: 2, statementTimeoutMs: 30_000 });
    const stop = async () => {
      await closeDatabase(operator);
      await server.stop();
    };
    return [{ address: server.address, operator, stop }, port, server];
  };
  const [[primary, port], [replica]] = await Promise.all([
    startOne('primary', 1),
    startOne('replica', 2, ['--read-only=ON', '--relay-log=relay', '--log-slave-updates=ON']),
  ]);
  await primary.operator.raw("create user 'follower'@'%' identified by 'follows'");
  await primary.operator.raw("grant replication slave on *.* to 'follower'@'%'");
  await replica.operator.raw(follow(port));
  await replica.operator.raw(start);
  return {
    primary,
    replica,
    pause: async () => void (await replica.operator.raw(pause)),
    resume: async () => void (await replica.operator.raw(resume)),
    async promote() {
      for (const statement of promote) await replica.operator.raw(statement);
    },
    async stop() {
      await Promise.all([primary.stop(), replica.stop()]);
    },
  };
}

/** A port that leads to a server, as the name of a database's host does, and to another one when it is told to. */
export class Signpost {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #to: string;

  constructor({ address }: PairedServer) {
    this.#to = address.socketPath ?? '';
    this.#server = createServer((client) => {
      const server = connect(this.#to);
      for (const [end, other] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#sockets.add(end);
        end.on('error', () => {});
        end.on('close', () => {
          this.#sockets.delete(end);
          other.destroy();
        });
        end.pipe(other);
      }
    });
  }

  async open(): Promise<DatabaseAddress> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port, user: 'root', database: 'tasks' };
  }

  /** From now on it leads to this server. Present connections stay. */
  pointTo({ address }: PairedServer): void {
    this.#to = address.socketPath ?? '';
  }

  /** What is connected hears nothing any more, and nobody says so. */
  fallSilent(): void {
    for (const socket of this.#sockets) socket.unpipe();
  }

  /** Cuts what is connected; until it leads somewhere again, nobody is there. */
  cut(): void {
    this.#to = '/nowhere';
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
