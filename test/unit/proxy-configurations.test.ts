import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readConfig } from '../../src/config.ts';

// The configurations of deploy/proxies whose programs are not here to run them: what they say of the service must be true of it.

const folder = new URL('../../deploy/proxies/', import.meta.url);
const read = (name: string) => readFileSync(new URL(name, folder), 'utf8');
const { GRPC_PORT, WEB_PORT } = readConfig({});

test('each configuration is tried here, or run by test/wire/proxy-configurations.test.ts', () => {
  expect(readdirSync(folder).sort()).toEqual(['envoy.yaml', 'haproxy.cfg', 'ingress.yaml', 'nginx.conf', 'traefik.yaml']);
});

test.each(readdirSync(folder))('%s says which BASE_PATH it goes with, and that is one', (name) => {
  const [, basePath] = /\(BASE_PATH=(\S+)\)|set BASE_PATH=(\S+)/.exec(read(name))?.filter((text) => text !== undefined) ?? [];
  expect(basePath).toBe('/tasks/');
  expect(readConfig({ BASE_PATH: basePath }).BASE_PATH).toBe(basePath);
});

describe('envoy.yaml', () => {
  interface Route {
    readonly match: { readonly prefix?: string; readonly path?: string };
    readonly route: { readonly cluster: string; readonly timeout?: string; readonly prefix_rewrite?: string };
  }
  interface Envoy {
    readonly static_resources: {
      readonly listeners: readonly {
        readonly name: string;
        readonly filter_chains: readonly [
          {
            readonly filters: readonly [
              {
                readonly typed_config: {
                  readonly '@type': string;
                  readonly use_remote_address: boolean;
                  readonly route_config: { readonly virtual_hosts: readonly [{ readonly routes: readonly Route[] }] };
                  readonly http_filters: readonly { readonly name: string }[];
                };
              },
            ];
          },
        ];
      }[];
      readonly clusters: readonly {
        readonly name: string;
        readonly typed_extension_protocol_options?: Readonly<Record<string, { readonly explicit_http_config: object }>>;
        readonly load_assignment: {
          readonly cluster_name: string;
          readonly endpoints: readonly [
            {
              readonly lb_endpoints: readonly [
                { readonly endpoint: { readonly address: { readonly socket_address: { readonly port_value: number } } } },
              ];
            },
          ];
        };
      }[];
    };
  }
  const { listeners, clusters } = (parse(read('envoy.yaml')) as Envoy).static_resources;
  const managers = listeners.map(({ filter_chains: [{ filters }] }) => filters[0].typed_config);
  const routes = managers.map(({ route_config: { virtual_hosts } }) => virtual_hosts[0].routes);

  test('leads each listener to the port of the service that speaks its protocol', () => {
    const ports = clusters.map(
      ({ name, load_assignment: { cluster_name, endpoints }, typed_extension_protocol_options: options }) => {
        expect(cluster_name).toBe(name);
        return [name, endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value, options !== undefined];
      },
    );
    expect(ports).toEqual([
      ['tasks_web', WEB_PORT, false],
      ['tasks_grpc', GRPC_PORT, true],
    ]);
    expect(routes.map((all) => all.map(({ match, route }) => [match.path ?? match.prefix, route.cluster]))).toEqual([
      [
        ['/tasks', 'tasks_web'],
        ['/tasks/', 'tasks_web'],
      ],
      [['/', 'tasks_grpc']],
    ]);
  });

  test('ends no stream, takes no path off, and appends the address of the client', () => {
    for (const { match, route } of routes.flat()) {
      if (match.prefix !== undefined) expect(route.timeout).toBe('0s');
      expect(route.prefix_rewrite).toBeUndefined();
    }
    for (const { use_remote_address: appends, http_filters: filters } of managers) {
      expect(appends).toBe(true);
      expect(filters.at(-1)?.name).toBe('envoy.filters.http.router');
    }
  });
});

test('traefik.yaml leads each router to the port of the service that speaks its protocol', () => {
  interface Traefik {
    readonly http: {
      readonly routers: Readonly<
        Record<string, { readonly rule: string; readonly service: string; readonly middlewares?: unknown }>
      >;
      readonly services: Readonly<
        Record<string, { readonly loadBalancer: { readonly servers: readonly [{ readonly url: string }] } }>
      >;
    };
  }
  const { routers, services } = (parse(read('traefik.yaml')) as Traefik).http;
  const led = Object.entries(routers).map(([name, { rule, service, middlewares }]) => {
    expect(middlewares).toBeUndefined(); // none that takes the path off
    return [name, rule, services[service]?.loadBalancer.servers[0].url];
  });
  expect(led).toEqual([
    ['tasks-web', 'Host(`tasks.example.com`) && (Path(`/tasks`) || PathPrefix(`/tasks/`))', `http://tasks-service:${WEB_PORT}`],
    ['tasks-grpc', 'Host(`tasks.example.com`)', `h2c://tasks-service:${GRPC_PORT}`],
  ]);
});

test('ingress.yaml leads to ports of the services of the chart', () => {
  interface Manifest {
    readonly kind: string;
    readonly metadata: { readonly name: string };
    readonly spec: Readonly<Record<string, unknown>>;
  }
  const documents = (file: URL): Manifest[] =>
    parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as Manifest);
  const ports = documents(new URL('../kubernetes.yaml', folder))
    .filter(({ kind }) => kind === 'Service')
    .flatMap(({ metadata, spec }) => (spec['ports'] as { name: string }[]).map(({ name }) => `${metadata.name}:${name}`));
  const backends = documents(new URL('ingress.yaml', folder)).map(({ kind, spec }) => {
    expect(kind).toBe('Ingress');
    const [{ http }] = spec['rules'] as [
      { http: { paths: [{ path: string; pathType: string; backend: { service: { name: string; port: { name: string } } } }] } },
    ];
    const [{ path, pathType, backend }] = http.paths;
    return [path, pathType, `${backend.service.name}:${backend.service.port.name}`];
  });
  expect(backends).toEqual([
    ['/tasks', 'Prefix', 'tasks-service:web'],
    ['/', 'Prefix', 'tasks-service:grpc'],
  ]);
  for (const [, , backend] of backends) expect(ports).toContain(backend);
});
