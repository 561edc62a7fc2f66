import type { Command } from 'commander';
import type { Config, DatabaseAddress } from './config.ts';
import type { Database } from './db/connection.ts';
import type { Logger } from './platform/log.ts';
import type { Addresses } from './transport/server.ts';

/**
 * The parts that a checkout has and the production image has not: a private database with demo data, for runs without
 * `DATABASE_URL`.
 *
 * The folder `dev/` implements it and hands it to `runProgram`; nothing in `src/` imports from there.
 */
export interface Development {
  /** Starts the private database for the service. */
  startDatabase(config: Config, log: Logger): Promise<PrivateDatabase>;
  /** Opens the private database for a command: that of a running service, or one that is started until disposal. */
  openDatabase(config: Config): Promise<OpenedDatabase>;
  /** Adds the commands for people, of packages/cli, which call the service on the private database if nobody names another one. */
  addTaskCommands(program: Command): void;
  /** Adds the other commands that only a checkout has. */
  addCommands(program: Command, onDatabase: OnDatabase): void;
}

/** A database that is available until disposal. */
interface OpenedDatabase extends AsyncDisposable {
  readonly address: DatabaseAddress;
}

/** The private database of a service. */
interface PrivateDatabase extends OpenedDatabase {
  /** Loads the demo data if it is missing, and keeps changing it until disposal. Absent for a copy of a Coder. */
  loadDemo?(database: Database): Promise<Demo>;
  /** Tells commands on the same machine the address of a service without a demo. */
  announce(addresses: Addresses): void;
}

/** The demo data of a service. */
export interface Demo extends AsyncDisposable {
  /** A session token of each demo user who may sign in, by username. */
  readonly tokens: Readonly<Record<string, string>>;
  /** The secret with which the page gets the tokens, made at each start. It is part of the page's address that is printed. */
  readonly secret: string;
  /** Prints the addresses of the service, for people and scripts. */
  announce(addresses: Addresses): void;
}

/** The work of a command on the configured database. */
export type DatabaseWork = (database: Database, config: Config, address: DatabaseAddress) => Promise<void>;

/** Runs such work. */
export type OnDatabase = (work: DatabaseWork) => Promise<void>;
