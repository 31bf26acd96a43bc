// Opens the dashboard in a headless Chromium, as a person would, and prints what it shows as one JSON object.
//
// Usage: dashboard.cjs URL CHROMIUM [SCREENSHOT.png]. Fails where the page reports an error of its own or asks another host for anything.
"use strict";

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [url, executablePath, screenshot] = process.argv.slice(2);
// without these a closed network refuses the browser's own look-ups, many at a time
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function main() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "spanledger-chromium-"));
  const options = { executablePath, args, headless: true, viewport: { width: 1280, height: 1400 } };
  const browser = await chromium.launchPersistentContext(profile, options);
  const problems = [];
  const page = await browser.newPage();
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) problems.push(`asked ${request.url()}`);
  });
  try {
    await page.goto(url);
    // every figure where there are calls, the first-run blocks where there are none
    await page.waitForFunction(() => {
      const split = document.querySelector("section[aria-labelledby=split-title] tbody tr");
      const total = document.querySelector("dl.totals .main .money");
      return (split && total) || document.body.innerText.includes("OTEL_EXPORTER_OTLP_ENDPOINT");
    });
    const shown = await page.evaluate(() => {
      const text = (element) => (element ? element.innerText.trim() : null);
      const money = (row) => row.querySelector(".money")?.title ?? null;
      const section = document.querySelector("section[aria-labelledby=split-title]");
      const rows = [...(section?.querySelectorAll("tbody tr") ?? [])];
      return {
        title: document.title,
        hacked: window.hacked ?? null,
        text: document.body.innerText,
        heading: text(document.querySelector("#split-title")),
        rows: rows.map((row) => ({ name: text(row.querySelector("th")), cost: money(row) })),
        total: section ? money(section.querySelector("tfoot") ?? document.createElement("p")) : null,
        spend: document.querySelector("dl.totals .main .money")?.title ?? null,
      };
    });
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    if (problems.length > 0) throw new Error(problems.join("\n"));
    console.log(JSON.stringify(shown));
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
