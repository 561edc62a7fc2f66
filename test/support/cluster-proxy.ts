import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Cluster } from './cluster.ts';
import { freePort } from './free-port.ts';
import { findProxy, startProxy } from './proxies.ts';

/** HAProxy before a cluster. */
export interface ClusterProxy {
  /** Its port on 127.0.0.1, for the database's clients. */
  readonly port: number;
  stop(): Promise<void>;
}

/**
 * Starts HAProxy before a cluster as it is recommended for one: all connections go to one node, and to the next when that is no
 * member any more, which it is told over HTTP as by the usual scripts. @throws {Error} when there is no HAProxy.
 */
export async function startClusterProxy({ nodes }: Cluster): Promise<ClusterProxy> {
  const found = await findProxy('haproxy');
  if ('notRun' in found) throw new Error(found.notRun);
  const port = await freePort();
  const checks: Server[] = [];
  const lines: string[] = [];
  for (const [index, node] of nodes.entries()) {
    const check = createServer((_request, response) => {
      void node.isMember().then((isMember) => response.writeHead(isMember ? 200 : 503).end());
    }).listen(0, '127.0.0.1');
    await once(check, 'listening');
    checks.push(check);
    const how = index === 0 ? 'on-marked-up shutdown-backup-sessions' : 'backup';
    lines.push(
      `  server ${node.name} 127.0.0.1:${node.port} check port ${(check.address() as AddressInfo).port} inter 500 fall 2 rise 2 on-marked-down shutdown-sessions ${how}`,
    );
  }
  const config = `global
  maxconn 1000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
listen cluster
  bind 127.0.0.1:${port}
  option httpchk
${lines.join('\n')}
`;
  const proxy = await startProxy('haproxy', found, config, [port]);
  return {
    port,
    async stop() {
      await proxy.stop();
      for (const check of checks) check.close();
    },
  };
}
