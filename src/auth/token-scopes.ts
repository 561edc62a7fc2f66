/** A resource of Coder on which a right to read may be needed for a task. */
type Resource = 'workspace' | 'task';

const both: readonly Resource[] = ['workspace', 'task'];

/** Scopes that stand for several rights, and which of ours are among them (coderd/rbac/scopes.go). */
const compositeScopes: ReadonlyMap<string, readonly Resource[]> = new Map([
  ['all', both], // of the first versions, like `application_connect`, which reads nothing
  ['coder:all', both],
  ['coder:workspaces.create', ['workspace']],
  ['coder:workspaces.operate', ['workspace']],
  ['coder:workspaces.delete', ['workspace']],
  ['coder:workspaces.access', ['workspace']],
]);

/**
 * The resources that a token of some scopes may read, of those that matter for tasks. A scope is `resource:action`, or one of a few
 * composite words. An unknown scope, or one about another resource, grants nothing and restricts nothing.
 */
export function readByScopes(scopes: readonly string[]): ReadonlySet<Resource> {
  return new Set(scopes.flatMap(readByScope));
}

function readByScope(scope: string): readonly Resource[] {
  const composite = compositeScopes.get(scope);
  if (composite !== undefined) return composite;
  return both.filter((resource) => scope === `${resource}:read` || scope === `${resource}:*`);
}
