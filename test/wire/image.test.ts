import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { databaseUrl, startService } from '../support/service.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');

/** An image cannot be built here. What it would hold can be: the files that the last stage of the Dockerfile copies. */
describe.runIf(inject('engines').mariadb !== undefined)('what the image holds', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'image-'));
  let testDatabase: TestDatabase;

  beforeAll(async () => {
    testDatabase = await createTestDatabase('mariadb', { migrate: false });
    const last =
      readFileSync(path.join(root, 'Dockerfile'), 'utf8')
        .split(/^FROM /m)
        .at(-1) ?? '';
    for (const [, words = ''] of last.matchAll(/^COPY (?:--from=\w+ )?(.*)$/gm)) {
      const names = words.split(' ').slice(0, -1);
      for (const name of names.map((word) => word.replace(/^\/app\//, ''))) await put(name);
    }
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await testDatabase.drop();
  });

  /** Puts a file or folder into its place, made as the image's stages make it. */
  async function put(name: string): Promise<void> {
    switch (name) {
      case 'dist':
        await run('tsc', ['-p', path.join(root, 'tsconfig.build.json'), '--outDir', path.join(folder, 'dist')]);
        break;
      case 'node_modules': {
        const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
          packages: Record<string, { link?: true; dev?: true; optional?: true; devOptional?: true }>;
        };
        for (const [place, { link, dev, optional, devOptional }] of Object.entries(packages)) {
          if (place.startsWith('node_modules/') && !link && !dev && !optional && !devOptional) {
            // Those below a package are entries of their own.
            const nested = path.join(root, place, 'node_modules');
            cpSync(path.join(root, place), path.join(folder, place), { recursive: true, filter: (file) => file !== nested });
          }
        }
        break;
      }
      case 'dist-web':
        // The page is built by `npm run build`; without it the service serves no page.
        if (existsSync(path.join(root, name))) cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
        break;
      default:
        cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
    }
  }

  test('is all that it needs to migrate, to serve and to be asked whether it is well', async () => {
    const program = 'dist/main.js';
    const { address } = testDatabase;
    const command = (args: readonly string[], env: Readonly<Record<string, string>>) =>
      run(process.execPath, [program, ...args], { cwd: folder, env: { DATABASE_URL: databaseUrl(address), ...env } });
    await command(['migrate', 'up'], {});
    const service = await startService(
      address,
      { NODE_ENV: 'production', NODE_OPTIONS: '--enable-source-maps', OTEL_TRACES_EXPORTER: 'console' },
      { folder, program },
    );
    try {
      const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      // As the probes of deploy/kubernetes.yaml ask.
      await expect
        .poll(async () => (await health.check({ service: 'tasks.v1.TasksService' })).status)
        .toBe(ServingStatus.SERVING);
      const port = service.ops.split(':').at(-1) ?? '';
      expect((await command(['healthcheck'], { OPS_PORT: port })).stdout).toContain('"ready"');
    } finally {
      expect(await service.stop()).toBe(0);
    }
  });

  test.each(['serve', 'keys list', 'migrate status'])(
    'is no database of its own: without DATABASE_URL, %s ends with a line that names it',
    async (command) => {
      const ended = await run(process.execPath, ['dist/main.js', ...command.split(' ')], { cwd: folder, env: {} }).catch(
        (error: unknown) => error,
      );
      expect(ended).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^DATABASE_URL is required[^\n]*\n$/) });
    },
  );

  test('is nothing for development: neither the demo nor its command', async () => {
    expect(readdirSync(folder)).not.toContain('dev');
    await expect(run(process.execPath, ['dist/main.js', 'demo'], { cwd: folder, env: {} })).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining("unknown command 'demo'"),
    });
  });
});
