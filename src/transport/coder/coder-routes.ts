/** What Coder alone can do with tasks, below each of its two roots for them: the method, and the path with `*` for any one segment. */
const taskRoutes = [
  'POST /*',
  'DELETE /*/*',
  'PATCH /*/*/input',
  'POST /*/*/send',
  'GET /*/*/logs',
  'POST /*/*/pause',
  'POST /*/*/resume',
];

/** What it needs to sign in with a token, of which it makes one of its own, and to sign out. */
const sessionRoutes = ['POST /api/v2/users/me/keys', 'POST /api/v2/users/logout'];

/** What Coder's command line reads beside: to sign in, to choose a template for a new task, and before it sends to a paused one. */
const readRoutes = [
  'GET /api/v2/buildinfo',
  'GET /api/v2/users/first',
  'GET /api/v2/users/*',
  'GET /api/v2/users/*/organizations',
  'GET /api/v2/organizations/*',
  'GET /api/v2/organizations/*/templates',
  'GET /api/v2/organizations/*/templates/*',
  'GET /api/v2/organizations/*/templates/*/versions/*',
  'GET /api/v2/templates',
  'GET /api/v2/templateversions/*/presets',
  'GET /api/v2/workspaces/*',
  'GET /api/v2/workspacebuilds/*',
];

/** What it follows by a WebSocket: the log of a build, while it waits for a task. */
const streamRoutes = ['GET /api/v2/workspacebuilds/*/logs'];

/** Every route that is passed on to Coder. */
export const coderRoutes: readonly string[] = [
  ...['/api/v2/tasks', '/api/experimental/tasks'].flatMap((root) => taskRoutes.map((route) => route.replace(' ', ` ${root}`))),
  ...sessionRoutes,
  ...readRoutes,
  ...streamRoutes,
];

const patterns = coderRoutes.map((route) => {
  const [method = '', path = ''] = route.split(' ');
  return { route, method, segments: path.split('/') };
});

/**
 * The route of a request that is passed on, undefined for any other. A segment of its path is letters, digits, `.`, `_`, `~`, `@`, `+`, `-`, and whatever is
 * percent-encoded but separators and controls, and is no step to another folder: Coder cannot read it as another route.
 */
export function coderRouteOf(method: string | undefined, path: string): string | undefined {
  const given = path.split('/');
  return patterns.find(
    ({ method: its, segments }) =>
      its === method &&
      segments.length === given.length &&
      segments.every((segment, at) => (segment === '*' ? isPlain(given[at] ?? '') : segment === given[at])),
  )?.route;
}

/** The same of a request that opens a WebSocket. */
export function streamRouteOf(method: string | undefined, path: string): string | undefined {
  const route = coderRouteOf(method, path);
  return route !== undefined && streamRoutes.includes(route) ? route : undefined;
}

function isPlain(segment: string): boolean {
  if (!/^(?:[\w.~@+-]|%[0-9a-f]{2})+$/i.test(segment)) return false;
  try {
    const decoded = decodeURIComponent(segment);
    return decoded !== '.' && decoded !== '..' && !/[\p{Cc}/\\%?#;]/u.test(decoded);
  } catch {
    return false;
  }
}
