/** Settings that the service writes into the HTML of the page. */
interface Settings {
  /** The way from the address of the page to its root, as a relative address. */
  readonly root: string;
  /** Origins that pictures may come from. */
  readonly imageOrigins: readonly string[];
  /** The address of Coder, if the service knows it. */
  readonly coderUrl?: string;
  /** The gRPC port of the service, and whether it uses TLS. */
  readonly grpc: { readonly port: number; readonly secure: boolean };
  /** Whether the service runs on demo data and offers the tokens of its users. */
  readonly demo: boolean;
}

/** The settings of this service. */
export const settings: Settings = readSettings();

function readSettings(): Settings {
  const text = document.querySelector<HTMLMetaElement>('meta[name="tasks-service"]')?.content ?? '';
  // Vite's own server does not write them.
  if (!text.startsWith('{')) return { root: '/', imageOrigins: [], grpc: { port: 50051, secure: false }, demo: false };
  return JSON.parse(text) as Settings;
}
