import type { Command } from 'commander';
import type { Config, DatabaseAddress } from './config.ts';
import type { Database } from './db/connection.ts';
import type { Logger } from './platform/log.ts';
import type { Addresses } from './transport/server.ts';

/**
 * What a checkout has beyond the production image: a private database with demo data, for runs without `DATABASE_URL`.
 *
 * The folder `dev/` implements it and hands it to `runProgram`; nothing in `src/` imports from there.
 */
export interface Development {
  /** Starts the private database for the service. */
  startDatabase(config: Config, log: Logger): Promise<PrivateDatabase>;
  /** Opens the private database for a command: that of a running service, else started until it is disposed of. */
  openDatabase(config: Config): Promise<OpenedDatabase>;
  /** The service on the private database in `dataDir`, if it runs. */
  findService(dataDir: string): DevelopmentService | undefined;
  /** Adds the commands that only a checkout has. */
  addCommands(program: Command, onDatabase: OnDatabase): void;
}

/** A database that can be reached until it is disposed of. */
export interface OpenedDatabase extends AsyncDisposable {
  readonly address: DatabaseAddress;
}

/** The private database of a service. */
export interface PrivateDatabase extends OpenedDatabase {
  /** Loads the demo data into the tables where they are missing, and keeps them alive until it is disposed of. */
  loadDemo(database: Database): Promise<Demo>;
}

/** The demo data of a service. */
export interface Demo extends AsyncDisposable {
  /** A session token of each demo user who may sign in, by username. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Tells the person at the terminal, and scripts, where the service answers. */
  announce(addresses: Addresses): void;
}

/** A service that runs on its private database. */
export interface DevelopmentService {
  /** `host:port` of the gRPC port. */
  readonly grpc: string;
  /** A session token of the demo user `developer`. */
  readonly token: string | undefined;
}

/** What a command does with the database that the settings name. */
export type DatabaseWork = (database: Database, config: Config, address: DatabaseAddress) => Promise<void>;

/** Runs the work of a command on that database. */
export type OnDatabase = (work: DatabaseWork) => Promise<void>;
