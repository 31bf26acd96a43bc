// CI: the committed ../dist is exactly what the sources build to.
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundle, distDir } from './bundle.mjs';

const fresh = join(await mkdtemp(join(tmpdir(), 'spanledger-dist-')), 'dist');
try {
  await bundle(fresh);
  const names = new Set([...(await readdir(fresh)), ...(await readdir(distDir))]);
  const differing = [];
  for (const name of names) {
    const [a, b] = await Promise.all([fresh, distDir].map((dir) => readFile(join(dir, name)).catch(() => null)));
    if (!a || !b || !a.equals(b)) differing.push(name);
  }
  if (differing.length > 0) {
    console.error(`dashboards/dist is not what web/ builds to: ${differing.join(', ')}; run "npm run build" and commit dist`);
    process.exitCode = 1;
  } else {
    console.log(`dist is up to date (${names.size} files)`);
  }
} finally {
  await rm(join(fresh, '..'), { recursive: true, force: true });
}
