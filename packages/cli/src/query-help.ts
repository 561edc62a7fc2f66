/** What the help says of queries: all keys, so that a machine without a checkout has them. */
export const queryHelp = `
A query is terms with spaces between them, which must all hold. Words without a
colon are a part of the name, and quotation marks keep spaces together:
  owner:alice status:running template:typescript "fix login"

  owner:               a username, me, or * for everyone you may read
  waiting:             true: those that wait for input
  state:               working, idle, complete, failed: the agent's last report
  status:              of the workspace: pending, starting, running, stopping,
                       stopped, failed, canceling, canceled, deleting, deleted
  phase:               pending, initializing, active, paused, unknown, error
  name:, prompt:       a part of it
  template:, organization:, id:
  created_after:, created_before:, last_used_after:, last_used_before:
                       a day, or a time in RFC 3339
  shared:, shared_with_user:, shared_with_group:
  has-agent:           connecting, connected, disconnected, timeout
  healthy:, dormant:, outdated:, has_external_agent:, has-ai-task:
                       true or false
  param:               a parameter of the latest build: name, or name=value
`;
