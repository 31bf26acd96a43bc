// Writes ../dist, which is committed so that `cargo build` never needs Node.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bundle, distDir } from './bundle.mjs';

await bundle(distDir);
let total = 0;
for (const name of (await readdir(distDir)).sort()) {
  const bytes = await readFile(join(distDir, name));
  const packed = gzipSync(bytes).length;
  if (name !== 'licenses.txt') total += packed;
  console.log(`${name.padEnd(14)} ${String(bytes.length).padStart(7)} B  ${String(packed).padStart(6)} B gzip`);
}
console.log(`page: ${total} B gzip (ceiling 150 KB)`);
if (total > 150 * 1024) process.exit(1);
