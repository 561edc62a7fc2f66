import type { Addresses } from './server/server.ts';

/** What `npm start` prints when it answers: where, and commands to paste that work as they stand. */
export function welcome(facts: {
  readonly addresses: Addresses;
  readonly tokens: Readonly<Record<string, string>>;
  readonly engine: string;
  readonly milliseconds: number;
  /** The path of the file with everybody's tokens. */
  readonly demoFile: string;
}): string {
  const { addresses, tokens, engine, milliseconds, demoFile } = facts;
  const header = `-H 'coder-session-token: ${tokens['developer'] ?? ''}'`;
  const method = 'tasks.v1.TasksService/ListTasks';
  return `
Ready in ${milliseconds} ms, on a private database with demo data (${engine}).

  gRPC              ${addresses.grpc}
  Connect, web      http://${addresses.web}
  health, metrics   http://${addresses.ops}/readyz  http://${addresses.ops}/metrics

Paste any of these into another terminal. They list the tasks of the user "developer";
${demoFile} has the tokens of all demo users, as long as the service runs.

  grpcurl -plaintext ${header} ${addresses.grpc} ${method}

  node_modules/.bin/buf curl --http2-prior-knowledge --protocol grpc ${header} http://${addresses.grpc}/${method}

  curl ${header} -H 'content-type: application/json' -d '{}' http://${addresses.web}/${method}

Ctrl-C stops it. The data stay for the next start.
`;
}
