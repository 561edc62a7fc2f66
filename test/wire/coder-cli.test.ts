import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type RecordedCommand, startForCoderCli } from '../support/coder-cli.ts';
import { signedIn } from '../support/test-server.ts';

const recorded = JSON.parse(readFileSync(join(import.meta.dirname, '../data/coder/cli-requests.json'), 'utf8')) as {
  readonly commands: readonly RecordedCommand[];
};

test.each(recorded.commands)('coder $command has all that it asks for', async ({ requests }) => {
  const service = await startForCoderCli();
  try {
    expect(requests).not.toEqual([]);
    for (const request of requests) {
      const [method = '', path = ''] = request.split(' ');
      if (method === 'WebSocket') {
        const socket = new WebSocket(`ws://${service.web}${path}`);
        const [{ data }] = (await once(socket, 'message')) as [MessageEvent];
        expect(data, request).toBe('{"id":1}');
        socket.close();
      } else {
        const response = await fetch(`http://${service.web}${path}`, { method, headers: signedIn });
        expect(response.status, request).toBeLessThan(300);
      }
    }
  } finally {
    await service.stop();
  }
});
