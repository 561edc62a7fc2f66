import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { type Cluster, ClusterNode, type ClusterWords, nodeOptions, rootOverTcp, withMemoryLimit } from './cluster.ts';
import { cacheDir, mariadbs, type PreparedServer, prepareServer } from './engines.ts';
import { freePort } from './free-port.ts';

const run = promisify(execFile);

/** How a node of Galera is asked, and joins again. */
const words: ClusterWords = {
  memberState: 'Primary Synced ON',
  readAll: 'set session wsrep_sync_wait = 1',
  async stateOf(node) {
    const rows = await node.run(
      "show status where `Variable_name` in ('wsrep_cluster_status', 'wsrep_local_state_comment', 'wsrep_ready')",
    );
    const state = new Map(rows.map((row) => [row['Variable_name'], row['Value']]));
    return `${state.get('wsrep_cluster_status')} ${state.get('wsrep_local_state_comment')} ${state.get('wsrep_ready')}`;
  },
  async sizeOf(node) {
    const [row] = await node.run("show status like 'wsrep_cluster_size'");
    return Number(row?.['Value']);
  },
  leave: "set global wsrep_provider_options = 'gmcast.isolate=1'",
  comeBack: "set global wsrep_provider_options = 'gmcast.isolate=0'",
  async rejoin(node, prepared) {
    await node.launch([`--wsrep-start-position=${await recoverPosition(prepared)}`]);
  },
};

/**
 * Starts a cluster of three nodes of MariaDB 10.11 with Galera, in `folder`. All begin with copies of the same data, and with the
 * position of these: so none needs all data of another, for which the server runs programs that are not in its package. What a node
 * misses after that it gets from the others' caches.
 */
export async function startGalera(folder: string): Promise<Cluster> {
  const provider = await findProvider();
  const ports = await Promise.all(
    Array.from({ length: 3 }, async () => ({ sql: await freePort(), group: await freePort(), ist: await freePort() })),
  );
  const seed = await prepareServer('mariadb', join(folder, 'seed'), []);
  await mkdir(join(folder, 'bin'));
  await writeFile(join(folder, 'bin', `wsrep_sst_${transfer}`), transferScript(folder), { mode: 0o755 });
  const env = { ...seed.env, PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}` };
  const nodes = await Promise.all(
    ports.map(async ({ sql, group, ist }, index) => {
      const name = `node${index + 1}`;
      await mkdir(join(folder, name, 'tmp'), { recursive: true });
      const prepared = placedIn({ ...seed, env }, join(folder, 'seed'), join(folder, name), [
        ...nodeOptions(sql),
        '--binlog-format=ROW',
        '--innodb-autoinc-lock-mode=2',
        '--wsrep-on=ON',
        `--wsrep-provider=${provider}`,
        `--wsrep-cluster-address=gcomm://${ports.map((port) => `127.0.0.1:${port.group}`).join()}`,
        `--wsrep-node-name=${name}`,
        `--wsrep-node-address=127.0.0.1:${group}`,
        `--wsrep-sst-method=${transfer}`,
        `--wsrep-sst-receive-address=127.0.0.1:${ist}`,
        `--wsrep-provider-options=base_host=127.0.0.1;base_port=${group};gmcast.listen_addr=tcp://127.0.0.1:${group};ist.recv_addr=127.0.0.1:${ist};gcache.size=64M`,
      ]);
      return new ClusterNode(name, sql, withMemoryLimit(prepared), words);
    }),
  );
  const [first, ...others] = nodes as [ClusterNode, ...ClusterNode[]];
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.kill()));
  };
  try {
    // Data that have been in a cluster have their position in it with them, after an end in order also in a file.
    await cp(seed.dataDir, first.dataDir, { recursive: true });
    await first.launch(['--wsrep-new-cluster']);
    await first.untilMember();
    await first.run(...rootOverTcp);
    await first.shutDown();
    await rm(join(first.dataDir, 'galera.cache'));
    await Promise.all(others.map((node) => cp(first.dataDir, node.dataDir, { recursive: true })));
    // One after the other: two that come at once meet each other first, and take seven seconds to find the group.
    for (const node of nodes) {
      await node.launch(node === first ? ['--wsrep-new-cluster'] : []);
      await node.untilMember();
    }
    const [version] = await first.run("show status like 'wsrep_provider_version'");
    const galera = /^[\d.]+/.exec(String(version?.['Value']))?.[0];
    return { kind: 'galera', title: `MariaDB ${seed.version.split('-')[0]} with Galera ${galera}`, nodes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The name of our way to transfer a state. */
const transfer = 'incremental';

/**
 * A way to transfer a state that transfers none: a node that can get what it misses from the cache of another is only told which
 * position that has, by a file, and all else fails. The server runs it on both.
 */
function transferScript(folder: string): string {
  return `#!/bin/sh
bypass=
while [ $# -gt 0 ]; do
  case $1 in
    --role) role=$2; shift ;;
    --address) address=$2; shift ;;
    --parent) parent=$2; shift ;;
    --gtid) position=$2; shift ;;
    --gtid-domain-id) domain=$2; shift ;;
    --bypass) bypass=1 ;;
  esac
  shift
done
file=${folder}/state-\${address%%/*}
if [ "$role" = joiner ]; then
  rm -f "$file"
  echo "ready $address/${transfer}"
  until [ -f "$file" ]; do kill -0 "$parent" || exit 1; sleep 0.05; done
  cat "$file"
elif [ "$bypass" ]; then
  echo "$position $domain" > "$file.partial" && mv "$file.partial" "$file"
  echo "done $position $domain"
else
  echo 'this node would need all data of another' >&2
  exit 1
fi
`;
}

/** The same server with its files in another folder, and with further options. */
function placedIn(seed: PreparedServer, from: string, to: string, options: readonly string[]): PreparedServer {
  const moved = (text: string): string => text.replace(from, to);
  return {
    ...seed,
    command: [...seed.command.map(moved), ...options],
    dataDir: moved(seed.dataDir),
    socketPath: moved(seed.socketPath),
    logFile: moved(seed.logFile),
  };
}

/** Fetches Galera's library from the release of Debian that has the server, into the cache folder. */
export async function findProvider(): Promise<string> {
  const { suite } = mariadbs.mariadb;
  const into = join(cacheDir, `galera-${suite}-${process.arch}`);
  if (!existsSync(into)) {
    console.log(`fetching Galera from the packages of Debian ${suite}`);
    await fetchPackages({ packages: ['galera-4'], suite, into, folder: 'usr/lib' });
  }
  return join(into, 'libgalera_smm.so');
}

/**
 * The position that the data of a killed node have, `uuid:seqno`: the server repairs its tables, prints it and ends.
 *
 * It must not purge meanwhile (`innodb_force_recovery=2`): it opens no tables in this mode, and where a table has a virtual column,
 * as ours have, MariaDB 10.11 tries that again and again until it has no memory left.
 */
async function recoverPosition({ command: [file = '', ...args], env, dataDir }: PreparedServer): Promise<string> {
  const options = ['--wsrep-recover', '--skip-networking', '--innodb-force-recovery=2'];
  const printed = await run(file, [...args, ...options], { env, cwd: dataDir });
  const position = /Recovered position:? *(\S+)/.exec(printed.stdout + printed.stderr)?.[1];
  if (position === undefined) throw new Error(`no position in ${printed.stderr.slice(-2000)}`);
  return position;
}
