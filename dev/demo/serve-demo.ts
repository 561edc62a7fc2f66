import { randomBytes } from 'node:crypto';
import type { Config } from '../../src/config.ts';
import type { Database } from '../../src/db/connection.ts';
import type { Demo } from '../../src/development.ts';
import type { Logger } from '../../src/platform/log.ts';
import type { EmbeddedEngine } from '../engine/engine.ts';
import { welcome } from '../welcome.ts';
import { keepDemoAgentsConnected } from './demo.ts';
import { keepDemoFile } from './demo-file.ts';
import { prepareDemo } from './prepare-demo.ts';

/** What {@link serveDemo} needs. */
interface DemoOptions {
  /** The service's own connections to its database, which is migrated. */
  readonly database: Database;
  readonly engine: EmbeddedEngine;
  readonly config: Config;
  readonly log: Logger;
  /** When the start of the service began, by the clock of `performance.now()`. */
  readonly started: number;
}

/** Loads the demo data if it is missing. While the service runs, keeps its agents connected and `demo.json` up to date. */
export async function serveDemo({ database, engine, config, log, started }: DemoOptions): Promise<Demo> {
  const tokens = await prepareDemo(engine.address);
  const parts = new AsyncDisposableStack();
  const agents = keepDemoAgentsConnected(database, { log });
  parts.defer(() => agents.stop());
  const secret = randomBytes(16).toString('base64url');
  return {
    tokens,
    secret,
    announce(addresses) {
      const tls = config.TLS_CERT_FILE !== undefined;
      const web = `${tls ? 'https' : 'http'}://${addresses.web}`;
      // Browsers send no server what stands behind the #.
      const page = `${web}${config.BASE_PATH}#demo=${secret}`;
      const demoFile = keepDemoFile(engine, log, {
        grpc: addresses.grpc,
        web,
        page,
        ops: `http://${addresses.ops}`,
        socket: engine.address.socketPath ?? '',
        user: engine.address.user,
        database: engine.address.database,
        tokens,
      });
      parts.defer(() => demoFile.remove());
      console.log(
        welcome({
          addresses,
          page,
          tls,
          tokens,
          demoFile: demoFile.path,
          engine: engine.version,
          milliseconds: Math.round(performance.now() - started),
        }),
      );
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}
