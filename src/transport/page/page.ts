import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { entityTag, isAmongTags } from '../entity-tag.ts';
import { type HttpRequest, type HttpResponse, pathOf, sendJson } from '../http.ts';
import { type DemoTokens, sendDemoTokens } from './demo-tokens.ts';

/** The parts of the page. */
export interface PageParts {
  /** The folder of the built page: `index.html`, and `assets/` with each file also as `.br` and `.gz` where that is smaller. */
  readonly folder: string;
  /** Origins that images may be loaded from. */
  readonly imageOrigins: readonly string[];
  /** The address of Coder, for links to it. */
  readonly coderUrl?: string | undefined;
  /** The demo users who can sign in by a click. For demo data only. */
  readonly demo?: DemoTokens | undefined;
}

/**
 * Answers a request for the page, or tells that it is for something else.
 *
 * @param isNotFound whether nothing else is served at the path of the request: then a browser is shown the page, which says so.
 */
export type Page = (request: HttpRequest, response: HttpResponse, isNotFound?: boolean) => boolean;

/** The folder of the built page, relative to the sources as well as to the build. */
export const pageFolder = path.resolve(import.meta.dirname, '../../../dist-web');

const demoPath = '/demo/tokens';

/** The paths that the page routes by itself: the list, and one task by its id, or by its owner and its name or id. */
const pagePath = /^\/(?:tasks\/[^/]+(?:\/[^/]+)?\/?)?$/;

/** Paths with more parts than this are answered without HTML: it is kept for each depth. */
const maxDepth = 10;

const mediaTypes: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The encodings that the build makes, the best first, with the suffix of their files. */
const encodings = [
  ['br', '.br'],
  ['gzip', '.gz'],
] as const;

interface Asset {
  readonly type: string;
  readonly plain: Buffer;
  readonly encoded: ReadonlyMap<string, Buffer>;
}

/** The HTML for paths of one depth. */
interface Index {
  readonly body: Buffer;
  readonly etag: string;
}

/** What the page needs to know of the ports. */
interface PortsForPage {
  /** Whether they speak TLS. */
  readonly secure: boolean;
  /** The gRPC port, for the page's example of a call. Read when the page is requested, since it may be 0 before. */
  grpcPort(): number;
}

/** Serves the page from memory: its HTML at `/` and `/tasks/{id}`, the rest under `/assets/`, and for the demo its tokens. */
export function createPage({ folder, imageOrigins, coderUrl, demo }: PageParts, { secure, grpcPort }: PortsForPage): Page {
  const html = existsSync(path.join(folder, 'index.html')) ? readFileSync(path.join(folder, 'index.html'), 'utf8') : undefined;
  const assets = html === undefined ? new Map<string, Asset>() : readAssets(path.join(folder, 'assets'));
  const policy = contentSecurityPolicy(imageOrigins);
  const indexes = new Map<string, Index>();

  /** The HTML with the settings of the page. */
  const makeIndex = (text: string, root: string): Index => {
    const settings = { root, imageOrigins, coderUrl, grpc: { port: grpcPort(), secure }, demo: demo !== undefined };
    const body = Buffer.from(
      text.replaceAll('="./', `="${root}`).replace('%SETTINGS%', () => escapeAttribute(JSON.stringify(settings))),
    );
    return { body, etag: entityTag(body) };
  };

  const sendIndex = (request: HttpRequest, response: HttpResponse, status = 200): void => {
    if (html === undefined) {
      sendJson(request, response, 404, { code: 'not_found', message: 'the page is not built: run "npm run build"' });
      return;
    }
    const root = rootFrom(pathOf(request));
    const index = indexes.get(root) ?? makeIndex(html, root);
    indexes.set(root, index);
    response.setHeader('content-security-policy', policy);
    response.setHeader('cross-origin-opener-policy', 'same-origin');
    response.setHeader('cache-control', 'no-cache'); // cached, and revalidated each time
    response.setHeader('etag', index.etag);
    if (status === 200 && isAmongTags(index.etag, request.headers['if-none-match'])) {
      response.statusCode = 304;
      response.end();
    } else send(request, response, 'text/html; charset=utf-8', index.body, status);
  };

  const sendAsset = (request: HttpRequest, response: HttpResponse, asset: Asset): void => {
    const encoding = encodings.find(([name]) => asset.encoded.has(name) && accepts(request, name))?.[0];
    response.setHeader('cache-control', 'public, max-age=31536000, immutable'); // its name has a hash of what it holds
    response.setHeader('vary', 'accept-encoding');
    if (encoding !== undefined) response.setHeader('content-encoding', encoding);
    send(request, response, asset.type, (encoding === undefined ? undefined : asset.encoded.get(encoding)) ?? asset.plain);
  };

  return (request, response, isNotFound = false) => {
    if (isNotFound) {
      if (html === undefined || !isOfBrowser(request) || pathOf(request).split('/').length > maxDepth) return false;
      protectPage(response);
      sendIndex(request, response, 404);
      return true;
    }
    const asked = pathOf(request);
    const asksDemo = asked === demoPath && demo !== undefined;
    const asset = assets.get(asked);
    if (!asksDemo && asset === undefined && !pagePath.test(asked)) return false;
    protectPage(response);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      sendJson(request, response, 405, { code: 'unimplemented', message: 'the page is only read' });
    } else if (asksDemo) sendDemoTokens(request, response, demo, secure);
    else if (asset !== undefined) sendAsset(request, response, asset);
    else sendIndex(request, response);
    return true;
  };
}

/** The headers of every answer of the page. */
function protectPage(response: HttpResponse): void {
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('x-content-type-options', 'nosniff');
}

/** Whether a request is of somebody who goes to an address with a browser. */
function isOfBrowser({ method, headers }: HttpRequest): boolean {
  return (method === 'GET' || method === 'HEAD') && (headers.accept ?? '').includes('text/html');
}

function readAssets(folder: string): Map<string, Asset> {
  const names = new Set(existsSync(folder) ? readdirSync(folder) : []);
  const read = (name: string): Buffer => readFileSync(path.join(folder, name));
  const assets = new Map<string, Asset>();
  for (const name of names) {
    const type = mediaTypes[path.extname(name)];
    if (type === undefined) continue;
    const encoded = encodings.flatMap(([encoding, ending]) =>
      names.has(name + ending) ? [[encoding, read(name + ending)] as const] : [],
    );
    assets.set(`/assets/${name}`, { type, plain: read(name), encoded: new Map(encoded) });
  }
  return assets;
}

/**
 * The relative URL from a path of the page to the root of the service: so the page finds its files under whatever path a proxy
 * serves it.
 */
function rootFrom(path: string): string {
  return '../'.repeat(path.split('/').length - 2) || './';
}

/** The Content-Security-Policy: the page may load its own files, call this service, and load images of the listed origins. */
function contentSecurityPolicy(imageOrigins: readonly string[]): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    ["img-src 'self' data:", ...imageOrigins].join(' '),
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    // The browser refuses to turn text into markup or a script, should the page ever try.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');
}

function send(request: HttpRequest, response: HttpResponse, type: string, body: Buffer, status = 200): void {
  response.statusCode = status;
  response.setHeader('content-type', type);
  response.setHeader('content-length', body.length);
  if (request.method === 'HEAD') response.end();
  else response.end(body);
}

function accepts(request: HttpRequest, encoding: string): boolean {
  const header = request.headers['accept-encoding'];
  const listed = [header ?? ''].flat().join(',').split(',');
  return listed.some((part) => {
    const [name = '', quality = ''] = part.split(';').map((text) => text.trim());
    return name.toLowerCase() === encoding && !/^q=0(?:\.0*)?$/.test(quality);
  });
}

function escapeAttribute(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
}
