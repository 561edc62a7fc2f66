/** What the service tells the page in its HTML. */
interface Settings {
  /** Origins that pictures may come from. */
  readonly imageOrigins: readonly string[];
  /** The port of the service for gRPC, and whether it speaks TLS. */
  readonly grpc: { readonly port: number; readonly secure: boolean };
  /** Whether the service runs on demo data and offers their tokens. */
  readonly demo: boolean;
}

/** The settings of this service. */
export const settings: Settings = readSettings();

function readSettings(): Settings {
  const text = document.querySelector<HTMLMetaElement>('meta[name="tasks-service"]')?.content ?? '';
  // Served by Vite itself, the page comes without them.
  if (!text.startsWith('{')) return { imageOrigins: [], grpc: { port: 50051, secure: false }, demo: false };
  return JSON.parse(text) as Settings;
}
