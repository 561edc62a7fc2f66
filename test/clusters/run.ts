import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cluster, type ClusterKind, clusterKinds } from '../support/cluster.ts';
import { blows } from '../support/cluster-blows.ts';
import { startClusterProxy } from '../support/cluster-proxy.ts';
import { runRounds } from '../support/cluster-rounds.ts';
import { startGalera } from '../support/galera.ts';
import { startGroupReplication } from '../support/group-replication.ts';
import { renderRounds } from './report.ts';

// `npm run test:clusters`: three nodes of Galera and of Group Replication on this machine, both with the database suite and with
// rounds of blows under random writes to all nodes. It prints what docs/scaling.md says, and exits with 1 when anything is wrong.

const { values } = parseArgs({
  options: {
    /** One kind of cluster alone. */
    kind: { type: 'string' },
    /** `suite` or `rounds` alone. */
    only: { type: 'string' },
    /** How often all blows are done. */
    times: { type: 'string', default: '1' },
    writers: { type: 'string', default: '3' },
    'pause-ms': { type: 'string', default: '20' },
    'rest-ms': { type: 'string', default: '5000' },
  },
});

/**
 * What the suite leaves out, and why: tests that never meet the server that files share, those that need a PostgreSQL, whose part is
 * the copy and not the cluster, how long something takes, which the rounds measure, and what tells a node from a server that is none.
 */
const needsPostgres = /describeOnPostgres|startPostgres/;
const leftOut = ['projection-lag.test.ts', 'cluster-lag.test.ts'];

const suite = readdirSync('test/db')
  .filter((name) => name.endsWith('.test.ts') && !leftOut.includes(name))
  .map((name) => join('test/db', name))
  .filter((file) => {
    const text = readFileSync(file, 'utf8');
    return text.includes('createTestDatabase(') && !needsPostgres.test(text);
  });

const starts: Readonly<Record<ClusterKind, (folder: string) => Promise<Cluster>>> = {
  galera: startGalera,
  'group-replication': startGroupReplication,
};

/** How old what watchers have may be, but for a failover, for 99 of 100 changes, in milliseconds. */
const mostLagMs = 1000;

let failed = false;
const folder = mkdtempSync(join(tmpdir(), 'tasks-clusters-'));
try {
  for (const kind of clusterKinds.filter((one) => values.kind === undefined || values.kind === one)) {
    const cluster = await starts[kind](join(folder, kind));
    try {
      console.log(`\n== ${cluster.title} ==`);
      if (values.only !== 'rounds') await runSuites(cluster);
      if (values.only !== 'suite') await runBlows(cluster);
    } finally {
      await cluster.stop();
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);

async function runSuites(cluster: Cluster): Promise<void> {
  const [node] = cluster.nodes;
  if (node === undefined) throw new Error('no node');
  await runSuite(cluster, 'one node', node.port);
  const proxy = await startClusterProxy(cluster);
  try {
    await runSuite(cluster, 'HAProxy', proxy.port);
  } finally {
    await proxy.stop();
  }
}

/** Runs the part of the database suite that meets the shared server, one file after another. */
async function runSuite({ kind, title }: Cluster, through: string, port: number): Promise<void> {
  const engine = kind === 'galera' ? 'mariadb' : 'mysql';
  const env = {
    ...process.env,
    TEST_ENGINES: engine,
    [`TEST_${engine.toUpperCase()}_URL`]: `mysql://root@127.0.0.1:${port}/mysql`,
  };
  const results = join(folder, 'results.json');
  const args = ['run', '--project=db', '--maxWorkers=1', '--reporter=json', `--outputFile.json=${results}`, ...suite];
  const began = performance.now();
  const vitest = spawn('vitest', args, { stdio: ['ignore', 'ignore', 'inherit'], env });
  const code = await new Promise((resolve) => vitest.once('close', resolve));
  const { testResults } = JSON.parse(readFileSync(results, 'utf8')) as {
    testResults: { name: string; message: string; assertionResults: { status: string; fullName: string }[] }[];
  };
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (status: string): number => tests.filter((test) => test.status === status).length;
  console.log(
    `database suite through ${through} of ${title}: ${count('passed')} passed, ${count('failed')} failed, ` +
      `${count('pending') + count('skipped')} skipped (${((performance.now() - began) / 1000).toFixed(0)} s)`,
  );
  for (const { status, fullName } of tests) if (status === 'failed') console.log(`FAILED: ${fullName}`);
  for (const { name, message } of testResults) if (message !== '') console.log(`FAILED: ${name}: ${message.slice(0, 300)}`);
  if (code !== 0) failed = true;
}

async function runBlows(cluster: Cluster): Promise<void> {
  const all = Object.values(blows);
  const report = await runRounds(cluster, {
    blows: Array.from({ length: Number(values.times) }, () => all).flat(),
    writers: Number(values.writers),
    pauseMs: Number(values['pause-ms']),
    restMs: Number(values['rest-ms']),
    log: (line) => console.log(line),
  });
  console.log(renderRounds(report));
  const tooSlow = !(report.lag.p99 <= mostLagMs);
  if (tooSlow) console.log(`FAILED: 99 of 100 changes showed within ${report.lag.p99.toFixed(0)} ms, not ${mostLagMs}`);
  if (tooSlow || report.faults.length > 0) failed = true;
}
