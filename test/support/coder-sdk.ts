import * as z from 'zod';

/**
 * Readers of tasks that are as strict as a Go program could be: every field of the SDK's struct must be there, but those that are
 * left out when they are empty, which must then not be empty; null is taken where Go has a pointer or a NullUUID alone; no other
 * field is known (codersdk/aitasks.go).
 */

const uuid = z.uuid();
const time = z.iso.datetime();
const omittedText = z.string().min(1).optional();
const phase = z.enum(['pending', 'initializing', 'active', 'paused', 'unknown', 'error']);
const workspaceStatus = z.enum([
  'pending',
  'starting',
  'running',
  'stopping',
  'stopped',
  'failed',
  'canceling',
  'canceled',
  'deleting',
  'deleted',
]);
const lifecycle = z.enum([
  'created',
  'starting',
  'start_timeout',
  'start_error',
  'ready',
  'shutting_down',
  'shutdown_timeout',
  'shutdown_error',
  'off',
]);

function stateEntry(states: readonly string[]) {
  return z.strictObject({ timestamp: time, state: z.enum(states), message: z.string(), uri: z.string() });
}

const common = {
  id: uuid,
  organization_id: uuid,
  owner_id: uuid,
  owner_name: z.string(),
  owner_avatar_url: omittedText,
  name: z.string(),
  display_name: z.string(),
  template_id: uuid,
  template_version_id: uuid,
  template_name: z.string(),
  template_display_name: z.string(),
  template_icon: z.string(),
  workspace_id: uuid.nullable(),
  workspace_name: z.string(),
  workspace_status: workspaceStatus.optional(),
  workspace_build_number: z.int32().min(1).optional(),
  workspace_agent_id: uuid.nullable(),
  workspace_agent_lifecycle: lifecycle.nullable(),
  workspace_agent_health: z.strictObject({ healthy: z.boolean(), reason: omittedText }).nullable(),
  workspace_app_id: uuid.nullable(),
  initial_prompt: z.string(),
};
const times = { created_at: time, updated_at: time };

/** A task of the newest version, in the order of the struct. */
export const stableTask = z.strictObject({
  ...common,
  status: phase,
  current_state: stateEntry(['working', 'idle', 'complete', 'failed']).nullable(),
  ...times,
});

/** A task of the first version, with the fields that came to it while its status was still that of the workspace. */
export const experimentalTask = z.strictObject({
  ...common,
  status: workspaceStatus,
  current_state: stateEntry(['working', 'idle', 'complete', 'failure']).nullable(),
  ...times,
});

/** The answer of a list. */
export function listOf<Task extends z.ZodType>(task: Task) {
  return z.strictObject({ tasks: z.array(task), count: z.int().min(0) });
}
