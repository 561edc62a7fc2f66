/**
 * A process that owns an embedded engine, to be killed by a test: `node engine-owner.ts <dataDir> <cacheDir>`. It prints one
 * line of JSON once the engine answers, or the reason why it does not, and stops the engine at SIGTERM. At SIGINT it first asks the
 * database for a number, and prints it.
 */
import mysql from 'mysql2/promise';
import pino from 'pino';
import { startEngine } from '../../dev/engine/engine.ts';

const [, , dataDir = '', cacheDir = ''] = process.argv;
const print = (value: unknown): boolean => process.stdout.write(`${JSON.stringify(value)}\n`);
try {
  const engine = await startEngine({ dataDir, cacheDir, log: pino({ level: 'silent' }) });
  const { socketPath, user } = engine.address;
  process.once('SIGTERM', () => void engine.stop());
  const answerAndStop = async (): Promise<void> => {
    const connection = await mysql.createConnection({ ...(socketPath === undefined ? {} : { socketPath }), user });
    const [rows] = await connection.query('select 42 as answer');
    print(rows);
    await connection.end();
    await engine.stop();
  };
  process.once('SIGINT', () => void answerAndStop());
  print({ pid: engine.pid, socketPath });
} catch (error) {
  print({ error: String(error) });
}
