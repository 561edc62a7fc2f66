import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, ClusterNode, type ClusterWords, nodeOptions, rootOverTcp, withMemoryLimit } from './cluster.ts';
import { prepareServer } from './engines.ts';
import { freePort } from './free-port.ts';

/** How long a node that was killed may take until it is let in again, in milliseconds. */
const joinMs = 90_000;

/** How a node of Group Replication is asked, and joins again. */
const words: ClusterWords = {
  memberState: 'ONLINE',
  readAll: "set session group_replication_consistency = 'BEFORE'",
  async stateOf(node) {
    const [row] = await node.run(
      'select `member_state` as `state` from `performance_schema`.`replication_group_members` where `member_id` = @@server_uuid',
    );
    return row?.['state'];
  },
  async sizeOf(node) {
    const [row] = await node.run(
      "select count(*) as `size` from `performance_schema`.`replication_group_members` where `member_state` in ('ONLINE', 'RECOVERING')",
    );
    return Number(row?.['size']);
  },
  leave: 'stop group_replication',
  comeBack: 'start group_replication',
  async rejoin(node) {
    await node.launch();
    // The group takes it back when it has noticed that it was gone.
    for (const deadline = performance.now() + joinMs; ; await sleep(100)) {
      try {
        await node.run('start group_replication');
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
      }
    }
  },
};

/**
 * Starts a group of three nodes of MySQL in `folder`, all of which take writes, or the first alone.
 *
 * Each begins with the same empty data, and gets all else from the binary log of another.
 */
export async function startGroupReplication(folder: string, { primaries = 'all' as 'all' | 'one' } = {}): Promise<Cluster> {
  const group = randomUUID();
  const ports = await Promise.all(Array.from({ length: 3 }, async () => ({ sql: await freePort(), group: await freePort() })));
  const seeds = ports.map((port) => `127.0.0.1:${port.group}`).join();
  let version = '';
  const nodes: ClusterNode[] = [];
  for (const [index, port] of ports.entries()) {
    const name = `node${index + 1}`;
    const prepared = await prepareServer('mysql', join(folder, name), [
      ...nodeOptions(port.sql),
      `--server-id=${index + 1}`,
      '--report-host=127.0.0.1',
      '--log-bin=log',
      '--relay-log=relay',
      '--binlog-expire-logs-seconds=0',
      '--sync-binlog=0',
      '--gtid-mode=ON',
      '--enforce-gtid-consistency=ON',
      '--performance-schema=ON', // has the state of the group
      '--plugin-load-add=group_replication.so',
      '--loose-group-replication-start-on-boot=OFF',
      `--loose-group-replication-group-name=${group}`,
      `--loose-group-replication-local-address=127.0.0.1:${port.group}`,
      `--loose-group-replication-group-seeds=${seeds}`,
      '--loose-group-replication-ip-allowlist=127.0.0.1/8',
      '--loose-group-replication-recovery-get-public-key=ON',
      '--loose-group-replication-message-cache-size=128M',
      `--loose-group-replication-single-primary-mode=${primaries === 'one' ? 'ON' : 'OFF'}`,
      `--loose-group-replication-enforce-update-everywhere-checks=${primaries === 'one' ? 'OFF' : 'ON'}`,
    ]);
    version = prepared.version;
    nodes.push(new ClusterNode(name, port.sql, withMemoryLimit(prepared), words));
  }
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.kill()));
  };
  try {
    await Promise.all(nodes.map((node) => node.launch()));
    for (const [index, node] of nodes.entries()) {
      // What makes the accounts is not in the binary log: each node has them before it joins.
      await node.run(
        'set session sql_log_bin = 0',
        ...rootOverTcp,
        "create user follower@'127.0.0.1' identified by 'follows'",
        "grant replication slave on *.* to follower@'127.0.0.1'",
        "change replication source to source_user = 'follower', source_password = 'follows' for channel 'group_replication_recovery'",
      );
      if (index === 0) await node.run('set global group_replication_bootstrap_group = on');
      await node.run('start group_replication');
      if (index === 0) await node.run('set global group_replication_bootstrap_group = off');
      await node.untilMember();
    }
    return { kind: 'group-replication', title: `MySQL ${version} with Group Replication`, nodes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
