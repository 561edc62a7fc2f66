import { connect } from 'node:http2';
import type { FloodQuestion, FloodResult } from '../flood.ts';
import { frameOf } from '../grpc-frame.ts';

// Sends more calls of a method than can be answered, from a process of its own and without a client library, whose cost would be that
// of the service: first as many as are answered, then five times as many whatever becomes of them, then as many as are answered.

const { address, path, headers, body, milliseconds } = JSON.parse(process.argv[2] ?? '') as FloodQuestion;
const frame = frameOf(Buffer.from(body, 'base64'));
const sessions = Array.from({ length: 4 }, () => {
  // A window of 64 KiB for all answers of a connection would make the client the bottleneck.
  const session = connect(`http://${address}`, { settings: { initialWindowSize: 2 ** 20 } });
  session.once('connect', () => session.setLocalWindowSize(2 ** 26));
  return session;
});
const request = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers };

/** The first answer, which all others must be equal to. */
let expected: Buffer | undefined;
let made = 0;
const result: FloodResult = { before: 0, offered: 0, answered: 0, after: 0, p99Ms: 0, outcomes: {}, wrong: 0 };

/** Makes one call, and resolves with its status when it has ended. */
function call(): Promise<string> {
  made += 1;
  const session = sessions[made % sessions.length];
  return new Promise((resolve) => {
    const stream = session?.request(request);
    if (stream === undefined) throw new Error('no connection');
    const chunks: Buffer[] = [];
    let status = 'none';
    const note = (received: object): void => {
      status = (received as Record<string, string | undefined>)['grpc-status'] ?? status;
    };
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error) => {
      status = error.message;
    });
    stream.on('close', () => {
      if (status === '0') {
        const answer = Buffer.concat(chunks);
        expected ??= answer;
        if (!answer.equals(expected)) result.wrong += 1;
      }
      resolve(status);
    });
    stream.end(frame);
  });
}

/** How many calls a second are answered when so many are made at once, one after the other. */
async function saturate(milliseconds: number, atOnce = 16): Promise<number> {
  const began = performance.now();
  let answered = 0;
  const one = async (): Promise<void> => {
    while (performance.now() - began < milliseconds) if ((await call()) === '0') answered += 1;
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return (1000 * answered) / (performance.now() - began);
}

async function flood(perSecond: number): Promise<void> {
  const began = performance.now();
  const latencies: number[] = [];
  const underWay: Promise<void>[] = [];
  let inTime = 0;
  const one = async (): Promise<void> => {
    const started = performance.now();
    const status = await call();
    const ended = performance.now();
    result.outcomes[status] = (result.outcomes[status] ?? 0) + 1;
    if (status !== '0') return;
    latencies.push(ended - started);
    if (ended - began < milliseconds) inTime += 1;
  };
  for (let passed = 0; passed < milliseconds; passed = performance.now() - began) {
    while (underWay.length < (passed / 1000) * perSecond) underWay.push(one());
    await new Promise((resolve) => {
      setTimeout(resolve, 2);
    });
  }
  result.offered = (1000 * underWay.length) / (performance.now() - began);
  result.answered = (1000 * inTime) / milliseconds;
  await Promise.all(underWay);
  result.p99Ms = latencies.sort((a, b) => a - b)[Math.floor(latencies.length * 0.99)] ?? 0;
}

await call();
await saturate(milliseconds / 4); // warm
result.before = await saturate(milliseconds / 2);
await flood(5 * result.before);
result.after = await saturate(milliseconds / 2);
for (const session of sessions) session.close();
console.log(`result ${JSON.stringify(result)}`);
