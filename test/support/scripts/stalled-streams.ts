import { connect } from 'node:http2';
import type { StalledStreams } from '../stalled-streams.ts';

// Opens many calls over gRPC whose requests never come whole, on several connections, from a process of its own: headers, and nearly
// as many bytes as a request may have. Says how they ended, as soon as so few are open as are expected, or after a while.

const { address, path, connections, streams, tokens, holdMs, leaveOpen } = JSON.parse(process.argv[2] ?? '') as StalledStreams;
const body = Buffer.alloc(60_000);
body.writeUInt32BE(61_000, 1); // of a message that is longer than what is sent of it
const outcomes: Record<string, number> = {};
let open = 0;

const sessions = Array.from({ length: connections }, (_, connection) => {
  const session = connect(`http://${address}`, { maxSessionMemory: 1000 });
  session.on('error', () => {});
  for (let i = 0; i < streams; i++) {
    const token = tokens ? { 'coder-session-token': `${`${connection}x${i}`.padEnd(10, 'y')}-${'z'.repeat(22)}` } : {};
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...token,
    });
    let status = 'none';
    open += 1;
    stream.on('response', (headers) => {
      status = String(headers['grpc-status'] ?? headers[':status']);
    });
    stream.on('trailers', (trailers) => {
      status = String(trailers['grpc-status']);
    });
    stream.on('error', () => {});
    stream.on('close', () => {
      open -= 1;
      outcomes[status] = (outcomes[status] ?? 0) + 1;
    });
    stream.resume();
    stream.write(body);
  }
  return session;
});

const began = performance.now();
const look = setInterval(() => {
  const heldMs = performance.now() - began;
  if (heldMs < holdMs && open > leaveOpen) return;
  clearInterval(look);
  console.log(`result ${JSON.stringify({ outcomes, open, heldMs })}`);
  for (const session of sessions) session.destroy();
}, 50);
