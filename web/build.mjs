// Bundles the terminal into the folder that the main node serves. Called by front_end.py, or with `npm run build`.
import { build } from "esbuild";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const OUT = process.argv[2] ?? here("../retirecluster/web/static/built");
const BUNDLED = ["@xterm/xterm", "@xterm/addon-fit"];

/** The licences of what the bundle contains, as their authors ask. */
function licences() {
  const parts = BUNDLED.map((name) => {
    const about = JSON.parse(readFileSync(here(`node_modules/${name}/package.json`), "utf8"));
    const text = readFileSync(here(`node_modules/${name}/LICENSE`), "utf8");
    return `${name} ${about.version} (${about.license})\n\n${text.trim()}\n`;
  });
  return `terminal.js and terminal.css contain parts of these packages.\n\n${parts.join("\n\n")}`;
}

mkdirSync(OUT, { recursive: true });
const made = await build({
  entryPoints: [here("src/terminal.ts"), here("src/terminal.css")],
  outdir: OUT,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});
const foreign = Object.keys(made.metafile.inputs).filter((path) => /node_modules/.test(path));
const unnamed = foreign.filter((path) => !BUNDLED.some((name) => path.includes(`node_modules/${name}/`)));
if (unnamed.length) throw new Error(`licences of these are not in BUNDLED: ${unnamed.join(", ")}`);
writeFileSync(`${OUT}/terminal.licences.txt`, licences());
