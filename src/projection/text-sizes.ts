import type { Database } from '../db/connection.ts';
import { promptParameter } from '../schema/projected-tables.ts';
import type { TaskSourceName } from '../schema/task-source.ts';
import { promptFactBytes } from './task-facts.ts';
import { maxAclLength } from './workspace-facts.ts';

/**
 * The bytes of text that a comparison reads for each of some tasks, by its id in hexadecimal: its longest prompt, its ACL, and the
 * texts in the read model.
 */
export async function readTextSizes(
  database: Database,
  source: TaskSourceName,
  ids: readonly Buffer[],
): Promise<Map<string, number>> {
  const [rows] = (await database.raw(`${sizesOf[source].sql} union all ${storedSizes}`, [
    ...sizesOf[source].values(ids),
    ids as never,
  ])) as [{ id: Buffer; bytes: number | string | null }[]];
  const sizes = new Map<string, number>();
  for (const { id, bytes } of rows) {
    const key = id.toString('hex');
    sizes.set(key, (sizes.get(key) ?? 0) + Number(bytes));
  }
  return sizes;
}

const storedSizes = 'select `t`.`id`, `t`.`texts_bytes` from `workspace_tasks` as `t` where `t`.`id` in (?)';

const sizesOf = {
  workspaces: {
    sql: `select \`b\`.\`workspace_id\` as \`id\`, max(least(length(\`p\`.\`value\`), ?)) as \`bytes\`
     from \`workspace_builds\` as \`b\` inner join \`workspace_build_parameters\` as \`p\` on \`p\`.\`workspace_build_id\` = \`b\`.\`id\`
     where \`b\`.\`workspace_id\` in (?) and \`p\`.\`name\` = ? group by \`b\`.\`workspace_id\`
     union all
     select \`w\`.\`id\`, least(length(\`w\`.\`user_acl\`) + length(\`w\`.\`group_acl\`), ?)
     from \`workspaces\` as \`w\` where \`w\`.\`id\` in (?)`,
    values: (ids: readonly Buffer[]) => [promptFactBytes, ids as never, promptParameter, 2 * maxAclLength, ids as never],
  },
  tasks: {
    sql: `select \`s\`.\`id\`, least(length(\`s\`.\`prompt\`), ?) +
       coalesce(least(length(\`w\`.\`user_acl\`) + length(\`w\`.\`group_acl\`), ?), 0) as \`bytes\`
     from \`tasks\` as \`s\` left join \`workspaces\` as \`w\` on \`w\`.\`id\` = \`s\`.\`workspace_id\` where \`s\`.\`id\` in (?)`,
    values: (ids: readonly Buffer[]) => [promptFactBytes, 2 * maxAclLength, ids as never],
  },
} as const;
