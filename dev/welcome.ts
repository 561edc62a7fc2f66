import type { Addresses } from '../src/transport/server.ts';

/** The text that `npm start` prints when it is ready: addresses, and commands to paste. */
export function welcome(facts: {
  readonly addresses: Addresses;
  /** The address of the page, with what it must know to offer the demo's users. */
  readonly page: string;
  /** Whether the gRPC and the web port speak TLS. */
  readonly tls: boolean;
  readonly tokens: Readonly<Record<string, string>>;
  readonly engine: string;
  readonly milliseconds: number;
  /** The path of the file with everybody's tokens. */
  readonly demoFile: string;
}): string {
  const { addresses, page, tls, tokens, engine, milliseconds, demoFile } = facts;
  const header = `-H 'coder-session-token: ${tokens['developer'] ?? ''}'`;
  // The commands do not verify the certificate, which is usually self-signed on a developer's machine.
  const [scheme, grpcurl, bufCurl, curl] = tls
    ? ['https', '-insecure', '--insecure', 'curl --insecure']
    : ['http', '-plaintext', '--http2-prior-knowledge', 'curl'];
  const method = 'tasks.v1.TasksService/ListTasks';
  return `
Ready in ${milliseconds} ms, on a private database with demo data (${engine}).

  the page          ${page}
  gRPC              ${addresses.grpc}
  Connect           ${scheme}://${addresses.web}
  health, metrics   http://${addresses.ops}/readyz  http://${addresses.ops}/metrics

Paste any of these into another terminal. They list the tasks of the user "developer";
${demoFile} has the tokens of all demo users, as long as the service runs.

  grpcurl ${grpcurl} ${header} ${addresses.grpc} ${method}

  node_modules/.bin/buf curl ${bufCurl} --protocol grpc ${header} ${scheme}://${addresses.grpc}/${method}

  ${curl} ${header} -H 'content-type: application/json' -d '{}' ${scheme}://${addresses.web}/${method}

Ctrl-C stops it. The data stay for the next start.
`;
}
