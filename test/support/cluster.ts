import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type RowDataPacket } from 'mysql2/promise';
import type { ServerProcess } from '../../dev/engine/server-process.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { launchServer, type PreparedServer } from './engines.ts';

/** The kinds of clusters that the tests know. */
export const clusterKinds = ['galera', 'group-replication'] as const;

/** One of {@link clusterKinds}. */
export type ClusterKind = (typeof clusterKinds)[number];

/** A cluster of three nodes on this machine, all of which take writes. */
export interface Cluster {
  readonly kind: ClusterKind;
  /** Such as `MariaDB 10.11.19 with Galera 26.4.23`. */
  readonly title: string;
  readonly nodes: readonly ClusterNode[];
  /** Kills all nodes. Their data stay where they are. */
  stop(): Promise<void>;
}

/** A node of a cluster, which a test may kill, pause and let join again. */
export class ClusterNode {
  /** Such as `node1`. */
  readonly name: string;
  /** How a program reaches it, as root without a password, but for the database. */
  readonly address: Omit<DatabaseAddress, 'database'>;
  /** Its port on 127.0.0.1, which takes the same account. */
  readonly port: number;
  readonly #prepared: PreparedServer;
  readonly #words: ClusterWords;
  #server: ServerProcess | undefined;

  constructor(name: string, port: number, prepared: PreparedServer, words: ClusterWords) {
    this.name = name;
    this.port = port;
    this.address = { socketPath: prepared.socketPath, user: 'root' };
    this.#prepared = prepared;
    this.#words = words;
  }

  /** The process id of its server, while it has one. */
  get pid(): number | undefined {
    return this.#server?.pid;
  }

  /** Where its data are. */
  get dataDir(): string {
    return this.#prepared.dataDir;
  }

  /** Starts the server with these options, before it is part of a cluster. */
  async launch(options: readonly string[] = []): Promise<void> {
    const server = await launchServer(this.#prepared, options);
    this.#server = server;
    void server.ended.then(() => {
      if (this.#server === server) this.#server = undefined;
    });
  }

  /** Runs statements as an operator, over a connection of their own; returns the rows of the last one. */
  async run(...statements: readonly string[]): Promise<RowDataPacket[]> {
    const connection = await mysql.createConnection({
      user: 'root',
      socketPath: this.#prepared.socketPath,
      connectTimeout: connectMs,
    });
    try {
      let rows: RowDataPacket[] = [];
      for (const sql of statements) [rows] = await connection.query<RowDataPacket[]>({ sql, timeout: statementMs });
      return rows;
    } finally {
      connection.destroy();
    }
  }

  /** Whether it says itself that it is a member that takes reads and writes. */
  async isMember(): Promise<boolean> {
    if (this.#server === undefined) return false;
    try {
      return (await this.#words.stateOf(this)) === this.#words.memberState;
    } catch {
      return false;
    }
  }

  /** Waits until it is a member and shows all that was committed on any node before. */
  async untilMember(limitMs = 60_000): Promise<void> {
    for (const deadline = performance.now() + limitMs; !(await this.#showsAll()); await sleep(20)) {
      if (performance.now() > deadline) throw new Error(`${this.name} does not become a member, see ${this.#prepared.logFile}`);
    }
  }

  async #showsAll(): Promise<boolean> {
    if (!(await this.isMember())) return false;
    try {
      await this.run(this.#words.readAll, 'select 1 from `mysql`.`user` limit 1');
      return await this.isMember();
    } catch {
      return false; // it was paused, and learns now that the others went on without it
    }
  }

  /** Ends it as `kill -9` does. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    process.kill(server.pid, 'SIGKILL');
    await server.ended;
  }

  /** Ends it in order. */
  async shutDown(): Promise<void> {
    await this.#server?.stop(30_000);
  }

  /** Stops the process where it is, until it is resumed: a machine that hangs. */
  pause(): void {
    if (this.#server !== undefined) process.kill(this.#server.pid, 'SIGSTOP');
  }

  resume(): void {
    if (this.#server !== undefined) process.kill(this.#server.pid, 'SIGCONT');
  }

  /** How many nodes the cluster has that it is part of, as it says itself; 0 when it says nothing. */
  async viewSize(): Promise<number> {
    return (await this.isMember()) ? this.#words.sizeOf(this).catch(() => 0) : 0;
  }

  /** Takes it out of the cluster while its server goes on, as a cut network would: what it shows is from then on old. */
  async leave(): Promise<void> {
    await this.run(this.#words.leave);
  }

  /** Undoes {@link leave}, and waits until it is a member that shows what it missed. */
  async comeBack(): Promise<void> {
    await this.run(this.#words.comeBack);
    await this.untilMember();
  }

  /** Starts it again after it was killed, and waits until it is a member that shows what it missed. */
  async rejoin(): Promise<void> {
    await this.#words.rejoin(this, this.#prepared);
    await this.untilMember();
  }
}

/** How a kind of cluster does the same things. */
export interface ClusterWords {
  /** The state that a node has which takes reads and writes. */
  readonly memberState: string;
  stateOf(node: ClusterNode): Promise<unknown>;
  sizeOf(node: ClusterNode): Promise<number>;
  readonly leave: string;
  readonly comeBack: string;
  /** Makes the next statement wait until the node has all that was committed on any node before. */
  readonly readAll: string;
  rejoin(node: ClusterNode, prepared: PreparedServer): Promise<void>;
}

/** How long a node may take to take a connection of an operator, and a statement, in milliseconds. A paused one does neither. */
const connectMs = 1000;
const statementMs = 60_000;

/** Three nodes share a machine with all else: one whose memory grows beyond this, in KiB, shall fail alone. They take some 150 MiB. */
const mostMemoryKib = 3_000_000;

/** The same server with a limit to its memory. */
export function withMemoryLimit(prepared: PreparedServer): PreparedServer {
  return { ...prepared, command: ['/bin/sh', '-c', `ulimit -d ${mostMemoryKib}; exec "$@"`, 'sh', ...prepared.command] };
}

/** The options of all nodes: small, over TCP, and with what is committed outliving the end of the process. */
export function nodeOptions(port: number): string[] {
  return [
    '--skip-networking=OFF',
    '--bind-address=127.0.0.1',
    `--port=${port}`,
    '--innodb-buffer-pool-size=64M',
    '--innodb-flush-log-at-trx-commit=2',
    '--log-bin-trust-function-creators=ON',
  ];
}

/** Lets root in over TCP, which proxies use. */
export const rootOverTcp = ["create user root@'127.0.0.1'", "grant all privileges on *.* to root@'127.0.0.1' with grant option"];
