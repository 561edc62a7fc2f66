import { randomBytes } from 'node:crypto';
import type { TaskFacts } from '../../src/projection/task-facts.ts';

/** The facts of a task that runs: one build that succeeded, one agent that is ready, one healthy app, nothing reported. */
export function someFacts(changes: Partial<TaskFacts> = {}): TaskFacts {
  const id = () => randomBytes(16);
  const version = id();
  const [agent, app, build] = [id(), id(), id()];
  return {
    id: id(),
    owner_id: id(),
    organization_id: id(),
    template_id: id(),
    name: 'Some-Task',
    deleted: 0,
    favorite: 0,
    user_acl: '{}',
    group_acl: '{}',
    acl_is_cut: 0,
    dormant_at: null,
    created_at: '2026-11-01 10:00:00.000001',
    updated_at: '2026-11-01 10:00:00.000002',
    build_id: build,
    build_number: 1,
    build_transition: 'start',
    build_has_ai_task: 1,
    build_template_version_id: version,
    build_created_at: '2026-11-01 10:00:00.000003',
    job_status: 'succeeded',
    job_completed: 1,
    job_canceled: 0,
    job_error: 0,
    start_id: build,
    start_has_ai_task: 1,
    start_prompt_length: 12,
    first_template_version_id: version,
    prompt: Buffer.from('Do something'),
    sidebar_app_id: app,
    sidebar_app_health: 'healthy',
    sidebar_agent_id: agent,
    sidebar_agent_lifecycle: 'ready',
    agent_id: agent,
    agent_lifecycle: 'ready',
    app_id: app,
    app_health: 'healthy',
    app_agent_id: agent,
    app_agent_lifecycle: 'ready',
    status_state: null,
    status_message: null,
    status_uri: null,
    status_created_at: null,
    ...changes,
  };
}
