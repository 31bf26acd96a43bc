// Bundles test/*.test.ts (Node 20 cannot run TypeScript itself) and hands them to Node's own test runner.
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { webDir } from './bundle.mjs';

const outdir = await mkdtemp(join(tmpdir(), 'spanledger-web-test-'));
try {
  const tests = (await readdir(join(webDir, 'test'))).filter((name) => name.endsWith('.test.ts'));
  await build({
    absWorkingDir: webDir,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
  });
  const files = tests.map((name) => join(outdir, name.replace(/\.ts$/, '.mjs')));
  process.exitCode = spawnSync(process.execPath, ['--test', ...files], { stdio: 'inherit' }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true, force: true });
}
