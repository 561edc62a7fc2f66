import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Table } from '../bench.ts';
import { openClient } from '../client.ts';
import { dataDir as benchDir } from '../data.ts';
import { median } from '../statistics.ts';

const root = resolve(import.meta.dirname, '../..');

/** Measures the time from `npm start` to the first answered call, on a machine where it has run before. */
export async function start(bench: Bench): Promise<readonly Table[]> {
  await startOnce(); // makes the demo data
  const seconds: number[] = [];
  for (let round = 0; round < (bench.quick ? 2 : 5); round++) seconds.push(await startOnce());
  return [
    {
      title: '`npm start` on a warm machine',
      rows: [{ 'first answered call, s': median(seconds), fastest: Math.min(...seconds), slowest: Math.max(...seconds) }],
      checks: [{ what: 'npm start to the first answered call, s', value: median(seconds), most: 2 }],
    },
  ];
}

async function startOnce(): Promise<number> {
  const dataDir = join(benchDir, 'start');
  const [grpc, web, ops] = await freePorts(3);
  const began = performance.now();
  const child = spawn('npm', ['start'], {
    cwd: root,
    env: { ...process.env, DATA_DIR: dataDir, GRPC_PORT: String(grpc), WEB_PORT: String(web), OPS_PORT: String(ops) },
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  try {
    for (;;) {
      const token = demoToken(dataDir);
      if (token !== undefined) {
        const client = openClient(`127.0.0.1:${grpc}`, token);
        const { tasks } = await client.listTasks({});
        const seconds = (performance.now() - began) / 1000;
        client.close();
        if (tasks.length === 0) throw new Error('the demo has no tasks');
        return seconds;
      }
      if (child.exitCode !== null) throw new Error(`npm start ended with ${child.exitCode}`);
      await sleep(5);
    }
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

/** Reads a token of the running service from the file that exists while it answers. */
function demoToken(dataDir: string): string | undefined {
  try {
    const { tokens } = JSON.parse(readFileSync(join(dataDir, 'demo.json'), 'utf8')) as { tokens: Record<string, string> };
    return tokens['developer'];
  } catch {
    return undefined;
  }
}

/** Finds free ports. All are kept open until all are known, so that none is found twice. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  return ports;
}
