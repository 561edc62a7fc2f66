import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

/** Compresses each file as well as it can be done, once, so that the service only has to send it. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    writeBundle({ dir }) {
      const folder = path.join(dir ?? '', 'assets');
      for (const name of readdirSync(folder)) {
        const file = path.join(folder, name);
        const plain = readFileSync(file);
        const variants = [
          ['.br', brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } })],
          ['.gz', gzipSync(plain, { level: 9 })],
        ] as const;
        for (const [ending, bytes] of variants) if (bytes.length < plain.length) writeFileSync(file + ending, bytes);
      }
    },
  };
}

export default defineConfig({
  build: {
    target: 'es2023',
    // The policy of the page allows no data in the place of scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      checks: { bundlerTimings: false },
      onLog(level, log, handle) {
        // "use client" means something to servers that render React, and nothing here.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') handle(level, log);
      },
    },
  },
  oxc: { jsx: { runtime: 'automatic', development: false } },
  plugins: [compressed()],
});
