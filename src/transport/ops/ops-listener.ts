import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Registry } from 'prom-client';
import type { Readiness } from '../../platform/readiness.ts';
import { type HttpRequest, type HttpResponse, httpLimits, pathOf, sendJson } from '../http.ts';
import type { Listener } from '../listener.ts';

/**
 * The operator port, over HTTP/1.1 and without a token: `/healthz`, whether the process is alive; `/readyz`, whether it should get
 * calls, or 503 with the parts that are not ready; `/metrics` for Prometheus.
 */
export function createOpsListener(readiness: Readiness, registry: Registry): Listener {
  const answer = async (request: HttpRequest, response: HttpResponse): Promise<void> => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      sendJson(request, response, 405, { error: 'only GET and HEAD' });
      return;
    }
    switch (pathOf(request)) {
      case '/healthz':
        sendJson(request, response, 200, { status: 'ok' });
        break;
      case '/readyz': {
        const { ready, parts } = await readiness.check();
        sendJson(request, response, ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', parts });
        break;
      }
      case '/metrics': {
        const text = await registry.metrics();
        response.setHeader('content-type', registry.contentType);
        response.setHeader('cache-control', 'no-store');
        response.end(request.method === 'HEAD' ? '' : text);
        break;
      }
      default:
        sendJson(request, response, 404, { error: 'not found; there are /healthz, /readyz and /metrics' });
    }
  };

  const server = createServer(httpLimits, (request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (!response.headersSent) sendJson(request, response, 500, { error: String(error) });
    });
  });
  return {
    port: server,
    open: 0, // a stop does not wait for probes
    async drain() {
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
    destroy() {
      server.closeAllConnections();
    },
  };
}
