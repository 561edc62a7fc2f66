import { defineConfig } from 'vite';

// One file with all that it needs: it installs at once, and runs wherever there is a Node.
export default defineConfig({
  ssr: { noExternal: true },
  build: {
    ssr: 'src/main.ts',
    target: 'node20',
    minify: false,
    license: { fileName: 'licenses.md' },
    rolldownOptions: { output: { format: 'cjs', entryFileNames: 'tasks.cjs', codeSplitting: false } },
  },
});
