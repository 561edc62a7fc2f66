import { toJson } from '@bufbuild/protobuf';
import { type Task, TaskSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { makeGrpcClient } from './clients.ts';
import type { Follower } from './watching.ts';

/** Compares what followers have with what their lists have now; says of each that differs in how many tasks it does. */
export async function staleFollowers(
  client: ReturnType<typeof makeGrpcClient>,
  followers: readonly Follower[],
): Promise<string[]> {
  const wrong: string[] = [];
  for (const { asked, tasks } of followers) {
    const expected = await listAll(client, asked);
    const got = new Map(Array.from(tasks, ([id, task]) => [id, plain(task)]));
    const missing = [...expected.keys()].filter((id) => !got.has(id));
    const extra = [...got.keys()].filter((id) => !expected.has(id));
    const stale = [...expected].filter(([id, text]) => got.has(id) && got.get(id) !== text);
    if (missing.length + extra.length + stale.length > 0) {
      wrong.push(
        `${asked.who} "${asked.query}": ${missing.length} missing, ${extra.length} too many, ${stale.length} not as they are`,
      );
    }
  }
  return wrong;
}

async function listAll(
  client: ReturnType<typeof makeGrpcClient>,
  { query, token }: Follower['asked'],
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  let pageToken = '';
  do {
    const options = { headers: { 'coder-session-token': token } };
    const { message } = await client.unary(TasksService.method.listTasks, { query, pageToken, pageSize: 200 }, options);
    for (const task of message.tasks) found.set(task.id, plain(task));
    pageToken = message.nextPageToken;
  } while (pageToken !== '');
  return found;
}

/** A task without what is no change of it. */
function plain(task: Task): string {
  const { lastUsedAt: _used, workspaceAgentHealth: _health, ...rest } = task;
  return JSON.stringify(toJson(TaskSchema, { ...rest }));
}
