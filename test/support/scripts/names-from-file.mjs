// @ts-check
import dns from 'node:dns';
import { readFileSync } from 'node:fs';

// Loaded into a process with `--import`: the names in the JSON of NAMES_FILE mean what it says at the time they are looked up.

const { lookup } = dns;

/** @param {string} name @param {any} options @param {any} callback */
function lookUp(name, options, callback) {
  const address = JSON.parse(readFileSync(process.env['NAMES_FILE'] ?? '', 'utf8'))[name];
  if (address === undefined) return lookup(name, options, callback);
  return options.all ? callback(null, [{ address, family: 4 }]) : callback(null, address, 4);
}
dns.lookup = /** @type {typeof lookup} */ (/** @type {unknown} */ (lookUp));
