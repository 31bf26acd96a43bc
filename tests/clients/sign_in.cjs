// Signs in to the dashboard in a headless Chromium with an API key, as a person would, and out again; prints what it saw as one JSON object.
//
// Usage: sign_in.cjs URL CHROMIUM KEY [SCREENSHOT.png]. Fails where the page reports an error of its own, breaks its policy or asks another host for anything.
"use strict";

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [url, executablePath, key, screenshot] = process.argv.slice(2);
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
  const options = { executablePath, args, headless: true, viewport: { width: 1280, height: 900 } };
  const browser = await chromium.launchPersistentContext(profile, options);
  const problems = [];
  const page = await browser.newPage();
  page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    // a refused request is what is asked for here
    if (message.type() === "error" && !message.text().includes("status of 401")) problems.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) problems.push(`asked ${request.url()}`);
  });
  const text = () => page.evaluate(() => document.body.innerText);
  try {
    await page.goto(url);
    await page.waitForSelector("#key");
    const before = await text();
    await page.fill("#key", "sl_wrong");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[role=alert]");
    const refused = await page.innerText("[role=alert]");
    if (screenshot) await page.screenshot({ path: screenshot });
    await page.fill("#key", key);
    await page.keyboard.press("Enter");
    await page.waitForSelector("dl.totals .main .money");
    const inside = await text();
    const who = await page.innerText(".who");
    const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }, document.documentElement.outerHTML]));
    // the session outlives the page
    await page.reload();
    await page.waitForSelector("dl.totals .main .money");
    await page.click(".who button");
    await page.waitForSelector("#key");
    const after = await text();
    await page.reload();
    await page.waitForSelector("#key");
    if (problems.length > 0) throw new Error(problems.join("\n"));
    console.log(JSON.stringify({ before, refused, inside, who, after, keepsKey: kept.includes(key) }));
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
