import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DatabaseAddress } from '../../src/config.ts';
import type { Logger } from '../../src/platform/log.ts';

/** The content of `demo.json` in the data folder, for scripts, while the service runs on its private database. */
export interface DemoFile {
  /** The process of the service. */
  readonly pid: number;
  /** `host:port` of the gRPC port. */
  readonly grpc: string;
  /** The address of the web port. */
  readonly web: string;
  /** The address of the page, with what it must know to offer the demo's users. */
  readonly page: string;
  /** The address of the operator port. */
  readonly ops: string;
  readonly socket: string;
  readonly user: string;
  readonly database: string;
  readonly engine: { readonly pid: number; readonly dataDir: string };
  /** A working session token of each demo user who may sign in. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** How often the process id of the engine is checked, in milliseconds. */
const engineCheckMs = 1000;

/** Writes the file, and rewrites it when the engine was restarted, until it is removed. */
export function keepDemoFile(
  engine: { readonly pid: number; readonly dataDir: string },
  log: Logger,
  content: Omit<DemoFile, 'pid' | 'engine'>,
): { readonly path: string; remove(): void } {
  const write = (): string =>
    writeDemoFile({ ...content, pid: process.pid, engine: { pid: engine.pid, dataDir: engine.dataDir } });
  const file = path.relative('', write());
  let written = engine.pid;
  const check = setInterval(() => {
    if (engine.pid === written) return;
    try {
      write();
      written = engine.pid;
    } catch (error) {
      log.warn({ err: error }, `${file} cannot be written, and names an engine that is gone`);
    }
  }, engineCheckMs).unref();
  return {
    path: file,
    remove() {
      clearInterval(check);
      removeDemoFile(engine.dataDir);
    },
  };
}

/** Writes the file, readable by its owner alone since it holds tokens, and returns its path. */
function writeDemoFile(content: DemoFile): string {
  const { dataDir } = content.engine;
  removeDemoFile(dataDir);
  const file = fileIn(dataDir);
  writeFileSync(file, `${JSON.stringify(content, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
  return file;
}

/** Removes the file if it exists. */
function removeDemoFile(dataDir: string): void {
  rmSync(fileIn(dataDir), { force: true });
}

/** Reads the file; undefined when no service runs. */
export function readDemoFile(dataDir: string): DemoFile | undefined {
  try {
    const content = JSON.parse(readFileSync(fileIn(dataDir), 'utf8')) as DemoFile;
    // A service that was killed leaves its file behind: the file is valid only while its process runs.
    process.kill(content.pid, 0);
    return content;
  } catch {
    return undefined;
  }
}

/** The address of the private database of a running service; undefined when none runs. */
export function demoDatabase(dataDir: string): DatabaseAddress | undefined {
  const content = readDemoFile(dataDir);
  return content && { socketPath: content.socket, user: content.user, database: content.database };
}

function fileIn(dataDir: string): string {
  return path.join(path.resolve(dataDir), 'demo.json');
}
