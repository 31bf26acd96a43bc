// One place that knows how the front end is built: `build.mjs` writes it, `check.mjs` compares it.
import { build } from 'esbuild';
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const webDir = dirname(dirname(fileURLToPath(import.meta.url)));
export const distDir = join(dirname(webDir), 'dist');

const shipped = ['preact', '@preact/signals', '@preact/signals-core', 'uplot'];

/** Builds the front end into `outdir`, under names that never change. */
export async function bundle(outdir, { minify = true } = {}) {
  await rm(outdir, { recursive: true, force: true });
  await mkdir(outdir, { recursive: true });
  await build({
    absWorkingDir: webDir,
    entryPoints: { app: 'src/main.tsx' },
    outdir,
    bundle: true,
    minify,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    logLevel: 'warning',
  });
  for (const name of ['index.html', 'icon.svg']) {
    await copyFile(join(webDir, 'src', name), join(outdir, name));
  }
  await writeFile(join(outdir, 'licenses.txt'), await licences());
}

/** The notices that the bundled packages ask to be kept with every copy. */
async function licences() {
  const parts = [];
  for (const name of shipped) {
    const dir = join(webDir, 'node_modules', name);
    const { version } = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8'));
    const file = (await readdir(dir)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no license file; add its notice by hand`);
    parts.push(`${name} ${version}\n\n${(await readFile(join(dir, file), 'utf8')).replaceAll('\r\n', '\n').trim()}\n`);
  }
  return parts.join('\n----\n\n');
}
