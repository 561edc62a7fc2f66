import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

/** Compresses each file at build time, at the highest level. */
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
  // The service makes these addresses relative to where the page is asked for.
  base: './',
  build: {
    target: 'es2023',
    // The page's Content-Security-Policy forbids `data:` URLs for scripts and styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      checks: { bundlerTimings: false },
      onLog(level, log, handle) {
        // "use client" is for React on servers, and has no meaning here.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') handle(level, log);
      },
    },
  },
  // Preact has React's API in a tenth of its bytes (docs/decisions/0011-the-page.md); what is written and checked are React's types.
  resolve: {
    alias: [
      { find: /^react-dom\/client$/, replacement: 'preact/compat/client' },
      { find: /^react-dom$/, replacement: 'preact/compat' },
      { find: /^react\/jsx-runtime$/, replacement: 'preact/jsx-runtime' },
      { find: /^react$/, replacement: 'preact/compat' },
    ],
  },
  oxc: { jsx: { runtime: 'automatic', development: false } },
  plugins: [compressed()],
});
